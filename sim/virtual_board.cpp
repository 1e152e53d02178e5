// The virtual board: a Verilated board top that looks like a serial port, or that is stepped.
//
// usage: virtual_board port|stepped [FILE.vcd]     (the file needs a build with tracing)
//
// It passes bytes between the host and the design's byte streams, or with BIT_CYCLES defined the pins of its UART, bit
// by bit, as many cycles a second as it can. The clock stands still while the design says that it is not busy and no
// byte is on its way. Ends when its standard input is closed or on SIGTERM, and prints the cycles it ran since the last
// reset and the seconds that all took.
//
// port: prints the path of a pseudo-terminal as its first line, and runs whenever there is something to do. A byte on
// standard input resets the design, as if it were configured again.
//
// stepped: prints how many words of 16 bits its memory outside the core has, and does what standard input says, in this
// order and nothing else:
//   b, length (4 bytes, little-endian), bytes    gives the design bytes to receive
//   g                                            runs until one more frame came out, or the design waits, or too long;
//                                                then prints length and bytes that came out, as above
//   i, cycles (4 bytes)                          runs so many cycles, though there may be nothing to do
//   r                                            resets the design, and its memory
//   m, first word, length (4 bytes each), bytes  writes them to the memory, as if they had been there already
//   c, first word, length                        prints the CRC-32 (4 bytes) of what the memory holds there
// FLAG is the byte that ends a frame; PARTS is how many parts of a design can rest at most, and DRAIN the cycles after
// which one that has rested can stand still. With MEMORY defined the design has an SDRAM for simulation.

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
#include <string>
#include <utility>
#include <vector>

#include "Vboard.h"
#include "Vboard___024root.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

// What `eval` does once the design has been started, without what it does for threads, messages and waveforms.
void Vboard___024root___eval(Vboard___024root*);

namespace {

constexpr size_t BURST = 512;           // Cycles between two looks at the terminal.
constexpr size_t BUFFER = 1 << 16;
constexpr uint64_t SILENCE = 1 << 28;   // Cycles that a stepped board runs without a frame: seconds of a board's time.

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

// Bytes on their way between the host and the design.
struct Buffers {
    std::vector<uint8_t> in, out;
    size_t in_taken = 0, out_sent = 0;
    bool framed = false;                // A frame has ended among `out`.

    bool offers() const { return in_taken < in.size(); }
    void put(uint8_t byte) {
        framed |= byte == FLAG && last_ != FLAG;
        last_ = byte;
        out.push_back(byte);
    }

private:
    uint8_t last_ = FLAG;
};

// The clock, and those of parts that can rest: each stands still when its part has rested for DRAIN cycles.
class Clocks {
public:
    void tick(Vboard& top, bool all) {
        top.clk = !top.clk;
        for (unsigned part = 0; part < PARTS; ++part) {
            if (all || !(top.rests >> part & 1)) left_[part] = DRAIN;
            else if (!left_[part]) continue;
            else --left_[part];
            top.clocks ^= 1 << part;
        }
    }

private:
    unsigned left_[PARTS] = {};     // cycles that each will go on
};

// What moves bytes to and from the design gives its inputs the values before the next active edge, takes its outputs,
// and makes the edges that this cycle needs. `rests` tells that nothing is on its way.
#ifdef BIT_CYCLES
// A UART's other end: a start bit, eight data bits, one stop bit, least significant bit first.
class Line {
public:
    explicit Line(Vboard& top) { top.rx = 1; }

    bool rests(const Vboard& top) const { return !sent_ && !left_ && !receive_wait_ && top.tx; }

    void cycle(Vboard& top, Buffers& bytes) {
        if (send_wait_) {
            --send_wait_;
        } else {
            sent_ >>= 1;
            // The last bit is a line at rest: the design's receiver has ended before anybody sleeps.
            if (sent_ <= 1 && bytes.offers()) sent_ = 3 << 9 | bytes.in[bytes.in_taken++] << 1;
            if (sent_) {
                top.rx = sent_ & 1;
                send_wait_ = BIT_CYCLES - 1;
            }
        }
        if (!left_ && !top.tx) {
            left_ = 10;
            receive_wait_ = BIT_CYCLES / 2;
        } else if (receive_wait_) {
            --receive_wait_;
        } else if (left_) {
            received_ = received_ >> 1 | top.tx << 9;
            receive_wait_ = BIT_CYCLES - 1;
            // A byte without its start or stop bit is none.
            if (!--left_ && (received_ & 0x201) == 0x200) bytes.put(received_ >> 1);
        }
        top.uart_clk = !top.uart_clk;
        if (top.busy) clocks_.tick(top, false);
    }

private:
    Clocks clocks_;
    unsigned sent_ = 0, send_wait_ = 0;                      // bits still to send, from the one on the line
    unsigned received_ = 0, receive_wait_ = 0, left_ = 0;    // bits still to come; at rest a bit after the last one
};
#else
class Line {
public:
    explicit Line(Vboard& top) { top.o___05Fready = 1; }     // `blocked` sees to that

    bool rests(const Vboard&) const { return true; }

    void cycle(Vboard& top, Buffers& bytes) {
        const bool offers = bytes.offers();
        top.i___05Fvalid = offers;
        if (offers) {
            top.i___05Fpayload = bytes.in[bytes.in_taken];
            bytes.in_taken += top.i___05Fready;
        }
        if (top.o___05Fvalid) bytes.put(top.o___05Fpayload);
        clocks_.tick(top, offers);
    }

private:
    Clocks clocks_;
};
#endif

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
        top_.eval();
    }

    ~Board() {
        top_.final();
#if VM_TRACE
        if (trace_) trace_->close();
#endif
    }

    // Runs until the design is idle with nothing to receive, for one burst at most; until a frame has ended if `framed`.
    //
    // A change of a clock is an active edge, so that one evaluation is one cycle. No output depends on an input of the
    // same cycle: what the last evaluation left is what holds before the edge.
    void run(bool framed) {
        for (size_t i = 0; i < BURST; ++i) {
            if (idle() || (framed && bytes_.framed)) return;
            cycle();
        }
    }

    // A cycle, whether there is something to do or not.
    void cycle() {
        line_.cycle(top_, bytes_);
#if VM_TRACE
        top_.eval();
        if (trace_) trace_->dump(cycles_);
#else
        Vboard___024root___eval(top_.rootp);
#endif
        ++cycles_;
#ifdef MEMORY
        if (top_.violations) {
            std::fprintf(stderr, "virtual board: cycle %llu: the SDRAM was used against its data sheet (%#x)\n",
                         static_cast<unsigned long long>(cycles_), static_cast<unsigned>(top_.violations));
            std::exit(1);
        }
#endif
    }

    // Moves bytes between the terminal and the buffers without waiting.
    void exchange(int terminal) {
        if (sends()) {
            const ssize_t count = write(terminal, &bytes_.out[bytes_.out_sent], bytes_.out.size() - bytes_.out_sent);
            if (count > 0) bytes_.out_sent += count;
            else if (count < 0 && errno != EAGAIN && errno != EINTR) fail("cannot write to the terminal");
            if (!sends()) {
                bytes_.out.clear();
                bytes_.out_sent = 0;
            }
        }
        if (!bytes_.offers()) {
            bytes_.in.resize(BUFFER);
            const ssize_t count = read(terminal, bytes_.in.data(), BUFFER);
            if (count < 0 && errno != EAGAIN && errno != EINTR) fail("cannot read from the terminal");
            bytes_.in.resize(count > 0 ? count : 0);
            bytes_.in_taken = 0;
        }
    }

    void give(const uint8_t* bytes, size_t size) {
        bytes_.in.erase(bytes_.in.begin(), bytes_.in.begin() + bytes_.in_taken);
        bytes_.in_taken = 0;
        bytes_.in.insert(bytes_.in.end(), bytes, bytes + size);
    }

    // Words of the memory outside the core that can be reached from here; none where it is the link that is tested.
    size_t words() const {
#if defined(MEMORY) && !defined(BIT_CYCLES)
        return sizeof top_.rootp->MEMORY.m_storage / 2;
#else
        return 0;
#endif
    }

    // Its bytes, from a word on: Verilator stores what it brings in a cycle, one word or two, as one number of the
    // machine, whose lowest byte comes first.
    uint8_t* bytes([[maybe_unused]] size_t first) {
#ifdef MEMORY
        return reinterpret_cast<uint8_t*>(top_.rootp->MEMORY.m_storage) + 2 * first;
#else
        std::abort();
#endif
    }

    // What came out since it was taken last.
    std::vector<uint8_t> take() {
        bytes_.framed = false;
        return std::exchange(bytes_.out, {});
    }

    bool framed() const { return bytes_.framed; }
    bool sends() const { return bytes_.out_sent < bytes_.out.size(); }
    bool idle() const { return !top_.busy && !bytes_.offers() && line_.rests(top_); }
    // Whether the output buffer might not hold what a burst sends.
    bool blocked() const { return bytes_.out.size() > BUFFER - BURST; }
    uint64_t cycles() const { return cycles_; }

private:
    VerilatedContext context_;
    Vboard top_{&context_, "board"};
#if VM_TRACE
    std::unique_ptr<VerilatedVcdC> trace_;
#endif
    uint64_t cycles_ = 0;
    Buffers bytes_;
    Line line_{top_};
};

using Clock = std::chrono::steady_clock;

// Runs whenever there is something to do, behind a terminal.
void serve(std::unique_ptr<Board>& board, const char* trace_file, Clock::duration& running) {
    const int terminal = open_terminal();
    std::printf("%s\n", ptsname(terminal));
    std::fflush(stdout);
    while (!stopped) {
        board->exchange(terminal);
        const bool waits = board->idle() || board->blocked();
        pollfd polled[] = {{terminal, static_cast<short>(POLLIN | (board->sends() ? POLLOUT : 0)), 0},
                           {STDIN_FILENO, POLLIN, 0}};
        if (poll(polled, 2, waits ? -1 : 0) < 0 && errno != EINTR) fail("cannot wait for the terminal");
        if (polled[1].revents) {
            char reset;
            if (read(STDIN_FILENO, &reset, 1) <= 0) return;
            board.reset();  // before the next one opens the same waveform
            board = std::make_unique<Board>(trace_file);
            continue;
        }
        if (waits) continue;
        const auto start = Clock::now();
        board->run(false);
        running += Clock::now() - start;
    }
}

// As `zlib.crc32`.
class Crc {
public:
    Crc() {
        for (uint32_t byte = 0; byte < 256; ++byte) {
            table_[byte] = byte;
            for (int bit = 0; bit < 8; ++bit) table_[byte] = table_[byte] >> 1 ^ (table_[byte] & 1 ? 0xEDB88320 : 0);
        }
    }

    void add(uint8_t byte) { rest_ = rest_ >> 8 ^ table_[(rest_ ^ byte) & 0xFF]; }
    uint32_t value() const { return ~rest_; }

private:
    uint32_t table_[256], rest_ = ~0u;
};

// Whether whoever gives the steps is still there.
bool owned() {
    pollfd polled{STDIN_FILENO, 0, 0};
    return !stopped && poll(&polled, 1, 0) >= 0 && !(polled.revents & (POLLHUP | POLLERR));
}

// Does what standard input says.
void step(std::unique_ptr<Board>& board, const char* trace_file, Clock::duration& running) {
    const auto get = [](uint32_t& number) {
        uint8_t bytes[4];
        if (std::fread(bytes, 1, 4, stdin) != 4) return false;
        number = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | static_cast<uint32_t>(bytes[3]) << 24;
        return true;
    };
    const auto put = [](uint32_t number) {
        for (int place = 0; place < 4; ++place) std::putchar(number >> 8 * place & 0xFF);
    };
    std::vector<uint8_t> content;
    uint32_t first, length;
    std::printf("%zu\n", board->words());
    std::fflush(stdout);
    for (int command; !stopped && (command = std::getchar()) != EOF;) {
        if (command == 'b') {
            if (!get(length)) return;
            content.resize(length);
            if (std::fread(content.data(), 1, content.size(), stdin) != content.size()) return;
            board->give(content.data(), content.size());
        } else if (command == 'm' || command == 'c') {
            if (!get(first) || !get(length)) return;
            if (length % 2 || first > board->words() || length / 2 > board->words() - first) {
                std::fprintf(stderr, "virtual board: its memory has %zu words, not %u bytes from word %u on\n",
                             board->words(), length, first);
                std::exit(1);
            }
            if (command == 'm') {
                if (std::fread(board->bytes(first), 1, length, stdin) != length) return;
            } else {
                Crc crc;
                const uint8_t* bytes = board->bytes(first);
                for (size_t at = 0; at < length; ++at) crc.add(bytes[at]);
                put(crc.value());
                std::fflush(stdout);
            }
        } else if (command == 'i') {
            if (!get(length)) return;
            for (uint32_t cycle = 0; cycle < length && (cycle % (1 << 16) || owned()); ++cycle) board->cycle();
        } else if (command == 'r') {
            board.reset();
            board = std::make_unique<Board>(trace_file);
        } else {
            const auto start = Clock::now();
            const uint64_t begun = board->cycles();
            for (unsigned bursts = 1; !board->idle() && !board->framed(); ++bursts) {
                if (bursts % 128 == 0 && !owned()) return;
                if (board->cycles() - begun >= SILENCE) break;
                board->run(true);
            }
            running += Clock::now() - start;
            content = board->take();
            put(content.size());
            std::fwrite(content.data(), 1, content.size(), stdout);
            std::fflush(stdout);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    struct sigaction action {};
    action.sa_handler = [](int) { stopped = 1; };
    sigaction(SIGTERM, &action, nullptr);
    std::signal(SIGINT, SIG_IGN);  // The host that shares this terminal decides.
    std::signal(SIGPIPE, SIG_IGN);

    const char* const trace_file = argc > 2 ? argv[2] : nullptr;
    auto board = std::make_unique<Board>(trace_file);
    Clock::duration running{};
    if (argc > 1 && std::string("stepped") == argv[1]) step(board, trace_file, running);
    else serve(board, trace_file, running);
    std::printf("%llu %.6f\n", static_cast<unsigned long long>(board->cycles()),
                std::chrono::duration<double>(running).count());
    return 0;
}
