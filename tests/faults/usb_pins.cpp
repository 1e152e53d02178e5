// The host controller at a Verilated device's D+ and D-, a transaction at a time, and what may go wrong on the lines.
//
// Standard input:
//   d, cycles                 by how much every hundredth bit of this end is longer, offset by 8
//   f, wire, kind, event (a byte each), start, length, seed      a fault (faults.h) on the only wire, 0, whose levels are
//                             D+ in bit 0 and D- in bit 1; event 1 is a token, 2 a packet of data, 3 a handshake
//   c                         ends all faults
//   l, level (a byte), bits   drives a level, or with 4 none; then prints whether the board was reset (a byte)
//   x, kind, address, endpoint, toggle (a byte each), patience, length, bytes
//                             a transaction: OUT (1) and SETUP (13) of these bytes, IN (9) of none, repeated for so many
//                             bits while the device has nothing but is busy; then prints how it ended (0: no answer, 1:
//                             none that makes sense, else the packet's kind), whether nothing is left to do, and whether
//                             the board was reset (a byte each), the cycles that it took, and the device's bytes

#include <memory>
#include <utility>

#include "Vboard.h"
#include "Vboard___024root.h"
#include "faults.h"
#include "verilated.h"

void Vboard___024root___eval(Vboard___024root*);

namespace {

constexpr unsigned BIT = 4;         // cycles of 48 MHz
constexpr unsigned PATIENCE = 18;   // bits that a host waits for an answer
constexpr unsigned LONGEST = 800;   // bits of the longest packet, and some more
constexpr unsigned QUIET = 4;       // answers that there is nothing, after which a design at rest has nothing
constexpr uint32_t FRAME = 12000;   // bits of a millisecond
enum Level : uint8_t { SE0, J, K, SE1, NOBODY };
enum Packet : uint8_t { NONE = 0, BAD = 1, OUT = 1, ACK = 2, DATA0 = 3, SOF = 5, IN = 9, NAK = 10, DATA1 = 11 };

using Bytes = std::vector<uint8_t>;

uint16_t crc(const uint8_t* bytes, size_t bits, uint16_t polynomial, uint16_t ones) {
    uint16_t rest = ones;
    for (size_t place = 0; place < bits; ++place)
        rest = rest >> 1 ^ ((rest ^ bytes[place / 8] >> place % 8) & 1 ? polynomial : 0);
    return rest ^ ones;
}

Bytes handshake(uint8_t kind) { return {static_cast<uint8_t>(kind | (kind ^ 15) << 4)}; }

Bytes token(uint8_t kind, uint16_t content) {
    const uint8_t bytes[] = {static_cast<uint8_t>(content), static_cast<uint8_t>(content >> 8)};
    const uint16_t word = content | crc(bytes, 11, 0x14, 0x1F) << 11;
    return {handshake(kind)[0], static_cast<uint8_t>(word), static_cast<uint8_t>(word >> 8)};
}

Bytes data_packet(uint8_t toggle, const Bytes& content) {
    Bytes packet = handshake(toggle ? DATA1 : DATA0);
    packet.insert(packet.end(), content.begin(), content.end());
    const uint16_t check = crc(content.data(), 8 * content.size(), 0xA001, 0xFFFF);
    packet.push_back(check);
    packet.push_back(check >> 8);
    return packet;
}

using Runs = std::vector<std::pair<uint8_t, unsigned>>;     // level, cycles

// The packet in the levels from its first K on; empty where there is none that makes sense.
Bytes decode(const Runs& runs) {
    std::vector<bool> bits;
    bool ended = false;
    for (const auto& [level, cycles] : runs) {
        const unsigned count = (cycles + BIT / 2) / BIT;
        if (level == SE0) {
            ended = count == 2;
            break;
        }
        if (level == SE1 || !count) return {};
        bits.push_back(false);
        bits.insert(bits.end(), count - 1, true);
    }
    if (!ended || bits.size() < 16 || bits[7] != true) return {};
    for (unsigned place = 0; place < 7; ++place)
        if (bits[place]) return {};
    Bytes packet;
    unsigned ones = 1, count = 0;
    for (size_t place = 8; place < bits.size(); ++place) {
        if (ones == 6) {
            if (bits[place]) return {};
            ones = 0;
            continue;
        }
        if (count % 8 == 0) packet.push_back(0);
        packet.back() |= bits[place] << count++ % 8;
        ones = bits[place] ? ones + 1 : 0;
    }
    if (count % 8 || (packet[0] & 15 ^ packet[0] >> 4) != 15) return {};
    if ((packet[0] & 3) == 3) {
        if (packet.size() < 3) return {};
        const uint16_t check = crc(&packet[1], 8 * (packet.size() - 3), 0xA001, 0xFFFF);
        if (packet[packet.size() - 2] != (check & 0xFF) || packet.back() != check >> 8) return {};
    } else if (packet.size() != 1) {
        return {};
    }
    return packet;
}

class Board {
    VerilatedContext context_;

public:
    Vboard top{&context_, "board"};

    Board() {
        top.line = J;
        top.eval();
    }
    ~Board() { top.final(); }

    void cycle(uint8_t line) {
        top.line = line;
        top.clk = !top.clk;
        top.usb_io_clk = !top.usb_io_clk;
        if (quarter_++ % BIT == 0) top.usb_clk = !top.usb_clk;
        Vboard___024root___eval(top.rootp);
    }

private:
    unsigned quarter_ = 0;
};

class Bus {
public:
    Faults faults{4};
    int drift = 0;
    bool was_reset = false;

    void hold(uint8_t level, uint32_t bits) {
        for (uint64_t count = 0; count < uint64_t{BIT} * bits; ++count) cycle(level);
    }

    bool idle() const { return !board_->top.busy && quiet_ >= QUIET; }

    struct Answer {
        uint8_t kind;
        Bytes content;
        uint32_t cycles;
    };

    Answer transact(uint8_t kind, uint8_t address, uint8_t endpoint, uint8_t toggle, uint32_t patience,
                    const Bytes& data) {
        const uint64_t begun = now_;
        Bytes answer;
        bool came;
        uint8_t is;
        if (kind != IN) quiet_ = 0;
        do {
            frame();
            faults.event(1);
            send(token(kind, address | endpoint << 7));
            if (kind != IN) {
                faults.event(2);
                send(data_packet(toggle, data));
            }
            came = listen(kind == IN ? 2 : 3, answer);
            is = !came ? NONE : answer.empty() ? BAD : answer[0] & 15;
            quiet_ = is == NAK && !board_->top.busy ? quiet_ + 1 : 0;
            if (kind == IN && (is == DATA0 || is == DATA1)) {
                faults.event(3);
                send(handshake(ACK));
            }
        } while (kind == IN && is == NAK && !idle() && now_ - begun < uint64_t{BIT} * patience);
        const bool data_came = is == DATA0 || is == DATA1;
        return {is, data_came ? Bytes(answer.begin() + 1, answer.end() - 2) : Bytes(),
                static_cast<uint32_t>(now_ - begun)};
    }

private:
    uint8_t cycle(uint8_t level) {
        const Vboard& top = board_->top;
        uint8_t wire = level != NOBODY ? level : top.drives ? top.driven : top.pullup ? J : SE0;
        if (faults.any()) {
            bool reset = false;
            wire = faults.apply(0, wire, reset);
            if (reset) {
                board_.reset();
                board_ = std::make_unique<Board>();
                was_reset = true;
            }
        }
        board_->cycle(wire);
        ++now_;
        return wire;
    }

    void frame() {
        if (now_ < next_frame_) return;
        next_frame_ = now_ + uint64_t{BIT} * FRAME;
        frame_ = (frame_ + 1) % 2048;
        send(token(SOF, frame_));
    }

    void drive(uint8_t level) {
        for (unsigned count = BIT + (++bits_ % 100 ? 0 : drift); count; --count) cycle(level);
    }

    void send(const Bytes& packet) {
        // A packet begins anywhere within a bit of the device.
        for (unsigned count = 3 * BIT + random_.next() % BIT; count; --count) cycle(NOBODY);
        uint8_t level = J;
        unsigned ones = 0;
        const auto bit = [&](bool one) {
            if (!one) level ^= J ^ K;
            drive(level);
        };
        for (unsigned place = 0; place < 8; ++place) bit(place == 7);
        ones = 1;
        for (uint8_t byte : packet)
            for (unsigned place = 0; place < 8; ++place) {
                bit(byte >> place & 1);
                ones = byte >> place & 1 ? ones + 1 : 0;
                if (ones == 6) {
                    bit(false);
                    ones = 0;
                }
            }
        for (uint8_t end : {SE0, SE0, J}) drive(end);
    }

    // Whether anything came. Listens until a packet has ended, the lines have stood still, or it is too long for one.
    bool listen(uint8_t event, Bytes& packet) {
        Runs runs;
        unsigned waited = 0;
        bool driven = false;
        for (unsigned count = 0; count < BIT * LONGEST; ++count) {
            if (!driven && board_->top.drives) {
                driven = true;
                faults.event(event);
            }
            const uint8_t level = cycle(NOBODY);
            if (runs.empty() && level != K) {
                if (++waited > BIT * PATIENCE) return false;
                continue;
            }
            if (runs.empty() || runs.back().first != level) runs.emplace_back(level, 0);
            const unsigned length = ++runs.back().second;
            const bool ended = level == J && runs.size() > 1 && runs[runs.size() - 2].first == SE0;
            if (length >= (ended ? BIT : 10 * BIT)) break;
        }
        packet = decode(runs);
        for (unsigned count = 0; board_->top.drives && count < BIT * LONGEST; ++count) cycle(NOBODY);
        return true;
    }

    std::unique_ptr<Board> board_ = std::make_unique<Board>();
    Random random_{1};
    uint64_t now_ = 0, next_frame_ = 0;
    uint32_t frame_ = 0, bits_ = 0;
    unsigned quiet_ = 0;
};

}  // namespace

int main() {
    Bus bus;
    for (;;) {
        switch (get_byte()) {
            case 'd': bus.drift = static_cast<int>(get_number()) - 8; break;
            case 'c': bus.faults.clear(); break;
            case 'f': {
                const uint8_t wire = get_byte(), kind = get_byte(), event = get_byte();
                const uint32_t start = get_number(), length = get_number();
                bus.faults.add(wire, kind, event, start, length, get_number());
                break;
            }
            case 'l': {
                const uint8_t level = get_byte();
                bus.hold(level, get_number());
                std::putchar(std::exchange(bus.was_reset, false));
                std::fflush(stdout);
                break;
            }
            case 'x': {
                const uint8_t kind = get_byte(), address = get_byte(), endpoint = get_byte(), toggle = get_byte();
                const uint32_t patience = get_number();
                const auto answer = bus.transact(kind, address, endpoint, toggle, patience, get_bytes());
                std::putchar(answer.kind);
                std::putchar(bus.idle());
                std::putchar(std::exchange(bus.was_reset, false));
                put_number(answer.cycles);
                put_bytes(answer.content);
                std::fflush(stdout);
                break;
            }
            default: return 1;
        }
    }
}
