// Gives a controller of an SDRAM its bursts, one after the other without a pause, and counts; bench/sdram.py builds it.
//
// On stdin: number of bursts, then address, count and tag of each. The words read are written first, each a function of
// its address. On stdout: words read, cycles from the first to the last of them, wrong words, and the bits of the
// violations. Words of a tag come in the order of its bursts; tags may mix.

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <vector>

#include "Vtop.h"

namespace {

constexpr std::uint64_t kTimeout = 1'000'000;  // cycles in which nothing happens

struct Burst {
    std::uint64_t address, count, tag;
};

std::uint64_t word_at(std::uint64_t address) { return (address * 2654435761u >> 16 ^ address) & 0xFFFF; }

class Bench {
public:
    void tick() {
        top_.clk = 0;
        top_.eval();
        top_.clk = 1;
        top_.eval();
        if (++cycle_ - changed_ > kTimeout) {
            std::fprintf(stderr, "nothing happens\n");
            std::exit(1);
        }
    }

    // Whether it was taken in this cycle, at the end of which it stands.
    template <typename Ready> bool taken(Ready& ready) {
        top_.clk = 0;
        top_.eval();
        const bool was = ready;
        if (was) changed_ = cycle_;
        return was;
    }

    void write(const std::vector<Burst>& bursts) {
        while (!top_.ready) tick();
        std::vector<bool> written(std::size_t{1} << ADDRESS_BITS);
        for (const Burst& burst : bursts) {
            for (std::uint64_t address = burst.address; address != burst.address + burst.count; ++address) {
                if (written[address]) continue;
                written[address] = true;
                top_.write___05Fvalid = 1;
                top_.write___05Fpayload = address | word_at(address) << ADDRESS_BITS;
                bool done = false;
                while (!done) {
                    done = taken(top_.write___05Fready);
                    tick();
                }
            }
        }
        top_.write___05Fvalid = 0;
        for (int quiet = 0; quiet < 1000; ++quiet) {
            tick();
            if (top_.busy) quiet = 0;
        }
    }

    void read(const std::vector<Burst>& bursts) {
        std::uint64_t wanted = 0;
        std::deque<Burst> open[1 << TAG_BITS];
        for (const Burst& burst : bursts) {
            wanted += burst.count;
            open[burst.tag].push_back(burst);
        }
        std::size_t next = 0;
        std::uint64_t words = 0, first = 0, last = 0, wrong = 0;
        while (words != wanted) {
            top_.i___05Fvalid = next != bursts.size();
            if (next != bursts.size()) {
                const Burst& burst = bursts[next];
                top_.i___05Fpayload = burst.address | burst.count << ADDRESS_BITS
                                      | burst.tag << (ADDRESS_BITS + COUNT_BITS);
            }
            if (taken(top_.i___05Fready) && next != bursts.size()) ++next;
            if (top_.valid) {
                changed_ = last = cycle_;
                if (words++ == 0) first = cycle_;
                auto& queue = open[top_.beat >> WORD_BITS];
                if (queue.empty() || word_at(queue.front().address) != (top_.beat & 0xFFFF)) ++wrong;
                if (!queue.empty()) {
                    ++queue.front().address;
                    if (--queue.front().count == 0) queue.pop_front();
                }
            }
            tick();
        }
        top_.i___05Fvalid = 0;
        std::printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %u\n", words, last - first + 1, wrong,
                    static_cast<unsigned>(top_.violations));
    }

private:
    Vtop top_;
    std::uint64_t cycle_ = 0, changed_ = 0;
};

}  // namespace

int main() {
    std::size_t count;
    if (std::scanf("%zu", &count) != 1) return 2;
    std::vector<Burst> bursts(count);
    for (Burst& burst : bursts) {
        if (std::scanf("%" SCNu64 " %" SCNu64 " %" SCNu64, &burst.address, &burst.count, &burst.tag) != 3) return 2;
    }
    Bench bench;
    bench.write(bursts);
    bench.read(bursts);
}
