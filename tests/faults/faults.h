// Faults on a wire, and how the programs that make them talk to Python: numbers of 4 bytes, little-endian.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

// What a fault does to the level of its wire while it lasts. Kinds below INVERT hold that level.
enum Kind : uint8_t { INVERT = 4, NOISE = 5, RESET = 6 };

constexpr uint32_t FOREVER = ~0u;

// What is random here depends on the seed alone.
class Random {
public:
    explicit Random(uint32_t seed) : state_(seed * 2654435761u + 88172645u) {}
    uint32_t next() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return state_ >> 33;
    }

private:
    uint64_t state_;
};

class Faults {
public:
    explicit Faults(uint8_t levels) : mask_(levels - 1) {}

    // On `wire`, `start` cycles after the next `event` (0: from now on), for `length` cycles.
    void add(uint8_t wire, uint8_t kind, uint8_t event, uint32_t start, uint32_t length, uint32_t seed) {
        faults_.push_back({wire, kind, event, 0, start, length, Random(seed)});
    }

    void event(uint8_t event) {
        for (Fault& fault : faults_)
            if (fault.event == event) fault.event = 0;
    }

    // The level of a wire in this cycle; called once a cycle. `reset` is set where the board is to be reset.
    uint8_t apply(uint8_t wire, uint8_t level, bool& reset) {
        for (size_t at = 0; at < faults_.size();) {
            Fault& fault = faults_[at];
            if (fault.wire == wire && !fault.event) {
                if (fault.start) {
                    --fault.start;
                } else {
                    if (fault.kind == RESET) reset = true;
                    else if (fault.kind == INVERT) level ^= mask_;
                    else if (fault.kind == NOISE) level = noise(fault);
                    else level = fault.kind;
                    if (fault.length != FOREVER && !--fault.length) {
                        faults_.erase(faults_.begin() + at);
                        continue;
                    }
                }
            }
            ++at;
        }
        return level;
    }

    bool any() const { return !faults_.empty(); }

    // Whether one is on its way that ends.
    bool pending() const {
        for (const Fault& fault : faults_)
            if (!fault.event && fault.length != FOREVER) return true;
        return false;
    }

    void clear() { faults_.clear(); }

private:
    struct Fault {
        uint8_t wire, kind, event, level;
        uint32_t start, length;
        Random random;
    };

    // A level that changes every fourth cycle or so.
    uint8_t noise(Fault& fault) {
        const uint32_t number = fault.random.next();
        if (number % 4 == 0) fault.level = number >> 8 & mask_;
        return fault.level;
    }

    std::vector<Fault> faults_;
    uint8_t mask_;
};

inline uint8_t get_byte() {
    const int byte = std::getchar();
    if (byte == EOF) std::_Exit(0);
    return byte;
}

inline uint32_t get_number() {
    uint32_t number = 0;
    for (unsigned byte = 0; byte < 4; ++byte) number |= static_cast<uint32_t>(get_byte()) << 8 * byte;
    return number;
}

inline std::vector<uint8_t> get_bytes() {
    std::vector<uint8_t> bytes(get_number());
    for (uint8_t& byte : bytes) byte = get_byte();
    return bytes;
}

inline void put_number(uint32_t number) {
    for (unsigned byte = 0; byte < 4; ++byte) std::putchar(number >> 8 * byte & 0xFF);
}

inline void put_bytes(const std::vector<uint8_t>& bytes) {
    put_number(bytes.size());
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
}
