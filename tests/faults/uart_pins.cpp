// The other end of a Verilated board's UART, bit by bit, and what may go wrong on the two wires.
//
// Standard input:
//   d, number                 how long a bit of this end is, in 1/256 of the board's clock cycle
//   b, length, bytes          to send, behind those that wait
//   f, wire, kind, event (a byte each), start, length, seed      a fault (faults.h); wire 0 leads to the board, 1 from
//                             it; event 1 is a byte to the board, 2 one from it
//   c                         ends all faults
//   g, cycles                 runs until a frame has ended that came out, nothing is left to do, or so many cycles; then
//                             prints the cycles run, whether nothing is left to do and whether the board was reset (a byte
//                             each), and the bytes that came out
// BIT_CYCLES is how long a bit of the board is. FLAG, PARTS and DRAIN are as in virtual_board.cpp.

#include <memory>

#include "Vboard.h"
#include "Vboard___024root.h"
#include "faults.h"
#include "verilated.h"

void Vboard___024root___eval(Vboard___024root*);

namespace {

constexpr unsigned CYCLE = 256;
constexpr unsigned STILL = 12 * BIT_CYCLES;     // cycles without a change after which no byte is on its way

// The design with its clocks, each of which stands still when its part has rested for DRAIN cycles.
class Board {
public:
    Board() {
        top_.rx = 1;
        top_.eval();
    }
    ~Board() { top_.final(); }

    uint8_t tx() const { return top_.tx; }
    bool busy() const { return top_.busy; }

    void cycle(uint8_t rx) {
        top_.rx = rx;
        top_.uart_clk = !top_.uart_clk;
        if (top_.busy) {
            top_.clk = !top_.clk;
            for (unsigned part = 0; part < PARTS; ++part) {
                if (!(top_.rests >> part & 1)) left_[part] = DRAIN;
                else if (!left_[part]) continue;
                else --left_[part];
                top_.clocks ^= 1 << part;
            }
        }
        Vboard___024root___eval(top_.rootp);
    }

private:
    VerilatedContext context_;
    Vboard top_{&context_, "board"};
    unsigned left_[PARTS] = {};
};

class Bench {
public:
    std::vector<uint8_t> out;
    bool was_reset = false;
    Faults faults{2};
    unsigned bit = CYCLE * BIT_CYCLES;

    void give(const std::vector<uint8_t>& bytes) {
        in_.erase(in_.begin(), in_.begin() + taken_);
        taken_ = 0;
        in_.insert(in_.end(), bytes.begin(), bytes.end());
    }

    // Returns the cycles run.
    uint32_t run(uint32_t most) {
        framed_ = false;
        uint32_t count = 0;
        while (count < most && !framed_ && !idle()) {
            cycle();
            ++count;
        }
        return count;
    }

    bool idle() const {
        return taken_ == in_.size() && !sent_ && !receiving_ && !board_->busy() && board_->tx() && !faults.pending() &&
               still_ >= STILL;
    }

private:
    void cycle() {
        if (!sent_ && taken_ < in_.size()) {
            sent_ = 3 << 9 | in_[taken_++] << 1;
            faults.event(1);
        }
        uint8_t rx = sent_ ? sent_ & 1 : 1, tx = board_->tx();
        // The clock of this end runs on between bytes that follow one another.
        if (sent_ && (send_time_ += CYCLE) >= bit) {
            send_time_ -= bit;
            sent_ >>= 1;
            if (sent_ == 1) sent_ = 0;
        }
        if (!sent_ && taken_ == in_.size()) send_time_ = 0;
        if (faults.any()) {
            if (!tx && !speaks_) faults.event(2);
            // A byte of the board has ended when its line was high for longer than in any byte.
            speaks_ = tx ? speaks_ - !!speaks_ : 10 * BIT_CYCLES;
            bool reset = false;
            rx = faults.apply(0, rx, reset);
            tx = faults.apply(1, tx, reset);
            if (reset) {
                board_.reset();
                board_ = std::make_unique<Board>();
                was_reset = true;
            }
        }
        still_ = rx == rx_ && tx == tx_ ? still_ + 1 : 0;
        rx_ = rx;
        tx_ = tx;
        receive(tx);
        board_->cycle(rx);
    }

    // Takes a level in the middle of each bit. A byte without a stop bit counts, as an adapter passes it on.
    void receive(uint8_t tx) {
        if (!receiving_) {
            if (tx) low_ = false;
            else if (!low_) {
                receiving_ = 10;
                receive_time_ = bit / 2 - CYCLE;
            }
            return;
        }
        if (receive_time_ >= CYCLE) {
            receive_time_ -= CYCLE;
            return;
        }
        receive_time_ += bit - CYCLE;
        if (receiving_ == 10 && tx) {
            receiving_ = 0;  // too short for a bit
            return;
        }
        received_ = received_ >> 1 | tx << 9;
        if (!--receiving_) {
            low_ = !tx;
            put(received_ >> 1);
        }
    }

    void put(uint8_t byte) {
        framed_ |= byte == FLAG && last_ != FLAG;
        last_ = byte;
        out.push_back(byte);
    }

    std::unique_ptr<Board> board_ = std::make_unique<Board>();
    std::vector<uint8_t> in_;
    size_t taken_ = 0;
    unsigned sent_ = 0, send_time_ = 0;
    unsigned received_ = 0, receiving_ = 0, receive_time_ = 0;
    unsigned speaks_ = 0, still_ = 0;
    uint8_t rx_ = 1, tx_ = 1;
    bool low_ = false, framed_ = false;
    uint8_t last_ = FLAG;
};

}  // namespace

int main() {
    Bench bench;
    for (;;) {
        switch (get_byte()) {
            case 'd': bench.bit = get_number(); break;
            case 'b': bench.give(get_bytes()); break;
            case 'c': bench.faults.clear(); break;
            case 'f': {
                const uint8_t wire = get_byte(), kind = get_byte(), event = get_byte();
                const uint32_t start = get_number(), length = get_number();
                bench.faults.add(wire, kind, event, start, length, get_number());
                break;
            }
            case 'g':
                put_number(bench.run(get_number()));
                std::putchar(bench.idle());
                std::putchar(bench.was_reset);
                bench.was_reset = false;
                put_bytes(bench.out);
                bench.out.clear();
                std::fflush(stdout);
                break;
            default: return 1;
        }
    }
}
