// The virtual board: a Verilated board top behind a pseudo-terminal that looks like a serial port.
//
// usage: virtual_board [FILE.vcd]     (the argument needs a build with tracing)
//
// Prints the path of the terminal as its first line, then passes bytes between the terminal and the design's byte
// streams, as many cycles a second as it can. Sleeps while the design says that it is not busy and no byte waits.
// Ends when its standard input is closed or on SIGTERM, and prints the cycles it ran and the seconds that took.

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>

#include "Vboard.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

constexpr size_t BURST = 512;           // Cycles between two looks at the terminal.
constexpr size_t BUFFER = 1 << 16;

volatile std::sig_atomic_t stopped = 0;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "virtual board: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

int open_terminal() {
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) fail("cannot open a pseudo-terminal");
    // Held open for good: the terminal survives the host's closing it, and is raw before the host sees it.
    const int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0) fail("cannot open the pseudo-terminal's other end");
    termios settings;
    if (tcgetattr(slave, &settings) != 0) fail("cannot read the terminal's settings");
    cfmakeraw(&settings);
    if (tcsetattr(slave, TCSANOW, &settings) != 0) fail("cannot make the terminal raw");
    if (fcntl(master, F_SETFL, O_NONBLOCK) != 0) fail("cannot make the terminal non-blocking");
    return master;
}

class Board {
public:
    explicit Board(const char* trace_file) {
#if VM_TRACE
        if (trace_file) {
            context_.traceEverOn(true);
            trace_ = std::make_unique<VerilatedVcdC>();
            top_.trace(trace_.get(), 99);
            trace_->open(trace_file);
        }
#else
        if (trace_file) {
            std::fprintf(stderr, "virtual board: this build cannot write a waveform\n");
            std::exit(1);
        }
#endif
        top_.o___05Fready = 1;  // `blocked` sees to that
        top_.eval();
    }

    ~Board() {
        top_.final();
#if VM_TRACE
        if (trace_) trace_->close();
#endif
    }

    // Runs until the design is idle with nothing to receive, for one burst at most.
    //
    // A change of a clock is an active edge, so that one evaluation is one cycle. No output depends on an input of the
    // same cycle: what the last evaluation left is what holds before the edge.
    void run() {
        for (size_t i = 0; i < BURST; ++i) {
            const bool offers = in_taken_ < in_size_;
            if (!top_.busy && !offers) return;
            top_.i___05Fvalid = offers;
            if (offers) {
                top_.i___05Fpayload = in_[in_taken_];
                in_taken_ += top_.i___05Fready;
            }
            if (top_.o___05Fvalid) out_[out_size_++] = top_.o___05Fpayload;
            if (offers || !top_.link_waiting) top_.link_clk = !top_.link_clk;
            top_.clk = !top_.clk;
            top_.eval();
#if VM_TRACE
            if (trace_) trace_->dump(cycles_);
#endif
            ++cycles_;
        }
    }

    // Moves bytes between the terminal and the buffers without waiting.
    void exchange(int terminal) {
        if (out_sent_ < out_size_) {
            const ssize_t count = write(terminal, out_ + out_sent_, out_size_ - out_sent_);
            if (count > 0) out_sent_ += count;
            else if (count < 0 && errno != EAGAIN && errno != EINTR) fail("cannot write to the terminal");
            if (out_sent_ == out_size_) out_sent_ = out_size_ = 0;
        }
        if (in_taken_ == in_size_) {
            const ssize_t count = read(terminal, in_, BUFFER);
            if (count < 0 && errno != EAGAIN && errno != EINTR) fail("cannot read from the terminal");
            in_taken_ = 0;
            in_size_ = count > 0 ? count : 0;
        }
    }

    bool sends() const { return out_sent_ < out_size_; }
    bool idle() const { return !top_.busy && in_taken_ == in_size_; }
    // Whether the output buffer might not hold what a burst sends.
    bool blocked() const { return out_size_ > BUFFER - BURST; }
    uint64_t cycles() const { return cycles_; }

private:
    VerilatedContext context_;
    Vboard top_{&context_, "board"};
#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> trace_;
#endif
    uint64_t cycles_ = 0;
    uint8_t in_[BUFFER];
    uint8_t out_[BUFFER];
    size_t in_taken_ = 0, in_size_ = 0, out_sent_ = 0, out_size_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    struct sigaction action {};
    action.sa_handler = [](int) { stopped = 1; };
    sigaction(SIGTERM, &action, nullptr);
    std::signal(SIGINT, SIG_IGN);  // The host that shares this terminal decides.

    const int terminal = open_terminal();
    auto board = std::make_unique<Board>(argc > 1 ? argv[1] : nullptr);
    std::printf("%s\n", ptsname(terminal));
    std::fflush(stdout);

    using clock = std::chrono::steady_clock;
    clock::duration running{};
    while (!stopped) {
        board->exchange(terminal);
        const bool waits = board->idle() || board->blocked();
        pollfd polled[] = {{terminal, static_cast<short>(POLLIN | (board->sends() ? POLLOUT : 0)), 0},
                           {STDIN_FILENO, POLLIN, 0}};
        if (poll(polled, 2, waits ? -1 : 0) < 0 && errno != EINTR) fail("cannot wait for the terminal");
        if (polled[1].revents) {
            char ignored[256];
            if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) break;
        }
        if (waits) continue;
        const auto start = clock::now();
        board->run();
        running += clock::now() - start;
    }
    std::printf("%llu %.6f\n", static_cast<unsigned long long>(board->cycles()),
                std::chrono::duration<double>(running).count());
    return 0;
}
