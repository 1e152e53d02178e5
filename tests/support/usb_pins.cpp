// The lines D+ and D- of a Verilated device: drives levels, and tells what the device drives.
//
// Standard input: a byte that is 1 where to listen afterwards, how many cycles of 48 MHz (4 bytes, little-endian), and a
// byte each: D+ in bit 0, D- in bit 1, 4 where nobody drives them.
// Standard output, for each of these: how many runs (4 bytes), and of each its level (a byte, as above) and its cycles
// (4 bytes): from the last one that was driven to the one behind which the device is silent again. Without an answer for
// PATIENCE cycles, or without listening, there are none. Ends with status 2 where both sides drive a line.
// SYNC and BITS_ are the half periods of the clocks `clk` and `usb_io_clk`, in a common unit; `usb_clk` is a quarter of
// the latter.

#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

#include "Vboard.h"
#include "verilated.h"

namespace {

constexpr uint8_t NOBODY = 4;

struct Bench {
    Vboard top;
    uint64_t now = 0, next_sync = 0, next_bits = 0;
    unsigned quarter = 0;

    // One cycle of 48 MHz; what the device drives is taken before its active edge.
    uint8_t cycle(uint8_t level) {
        const uint8_t driven = top.drives ? top.driven : NOBODY;
        if (level != NOBODY && driven != NOBODY) std::exit(2);
        top.line = level != NOBODY ? level : driven != NOBODY ? driven : top.pullup;
        for (unsigned edges = 0; edges < 2;) {
            now = next_sync < next_bits ? next_sync : next_bits;
            if (next_sync == now) {
                top.clk = !top.clk;
                next_sync += SYNC;
            }
            if (next_bits == now) {
                top.usb_io_clk = !top.usb_io_clk;
                next_bits += BITS_;
                ++edges;
                if (top.usb_io_clk) {
                    if (quarter % 2 == 0) top.usb_clk = !top.usb_clk;
                    quarter = (quarter + 1) % 4;
                }
            }
            top.eval();
        }
        return driven;
    }
};

void put(uint32_t number) {
    for (unsigned byte = 0; byte < 4; ++byte) std::putchar(number >> 8 * byte & 0xFF);
}

}  // namespace

int main() {
    Bench bench;
    for (unsigned count = 0; count < 64; ++count) bench.cycle(NOBODY);
    for (int listen; (listen = std::getchar()) != EOF;) {
        uint32_t count = 0;
        for (unsigned byte = 0; byte < 4; ++byte) count |= static_cast<uint32_t>(std::getchar()) << 8 * byte;
        for (; count; --count) bench.cycle(std::getchar());
        std::vector<std::pair<uint8_t, uint32_t>> runs;
        for (bool drove = false; listen;) {
            const uint8_t driven = bench.cycle(NOBODY);
            if (driven == NOBODY && drove) break;
            drove |= driven != NOBODY;
            if (runs.empty() || runs.back().first != driven) runs.emplace_back(driven, 0);
            if (++runs.back().second > PATIENCE && !drove) {
                runs.clear();
                break;
            }
        }
        put(runs.size());
        for (const auto& [level, cycles] : runs) {
            std::putchar(level);
            put(cycles);
        }
        std::fflush(stdout);
    }
    return 0;
}
