// What readout.py defines, from the events of the last layer to log-probabilities and words, bit for bit.
//
// Whole columns of active sources are read, a block of entries at a time for several predictions.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

constexpr size_t BLOCK = 64;                        // entries of a matrix
constexpr int HALF = 1 << 17, SCORE_FRACTION = 10;  // a score is -HALF to HALF - 1
constexpr int32_t BETA_ONE = 256;                   // of temperature 1

struct Event {
    uint32_t source;
    int32_t value;
};
using Events = std::vector<Event>;

// The head of the read-out, or a group.
struct Matrix {
    size_t entries, first;        // place of its first word
    std::vector<int8_t> weights;  // [block][source][entry in block]
    std::vector<int32_t> bias;
};

struct ReadOut {
    size_t outputs = 0, head = 0, rows = 1;
    int shift = 0;  // from an accumulator to a score
    std::vector<Matrix> matrices;
    std::vector<int32_t> exponential, logarithm;
    std::vector<uint32_t> order, matrix, entry;  // the word at each place; where each word is
};

// Add the columns of active sources, in a block of words.
void add_block(const int8_t *columns, const Events &events, int32_t *sums) {
#ifdef __AVX2__
    // Two sources a multiplication, which adds their products.
    __m256i total[BLOCK / 8] = {};
    for (size_t at = 0; at < events.size(); at += 2) {
        const Event one = events[at], other = at + 1 < events.size() ? events[at + 1] : Event{0, 0};
        const __m256i values = _mm256_set1_epi32(one.value | other.value << 16);
        const int8_t *left = columns + one.source * BLOCK, *right = columns + other.source * BLOCK;
        for (size_t part = 0; part < BLOCK / 16; part++) {
            const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i *>(left) + part);
            const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i *>(right) + part);
            const __m256i low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
            const __m256i high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, b));
            total[2 * part] = _mm256_add_epi32(total[2 * part], _mm256_madd_epi16(low, values));
            total[2 * part + 1] = _mm256_add_epi32(total[2 * part + 1], _mm256_madd_epi16(high, values));
        }
    }
    std::memcpy(sums, total, sizeof total);
#else
    std::fill_n(sums, BLOCK, 0);
    for (const auto [source, value] : events) {
        const int8_t *column = columns + source * BLOCK;
        for (size_t word = 0; word < BLOCK; word++) sums[word] += column[word] * value;
    }
#endif
}

// Scores of a block of entries.
void score(const ReadOut &readout, const Matrix &matrix, size_t block, const Events &events, int32_t *scores) {
    int32_t sums[BLOCK];
    add_block(matrix.weights.data() + block * readout.outputs * BLOCK, events, sums);
    const int32_t *bias = matrix.bias.data() + block * BLOCK;
    if (const int shift = readout.shift; shift > 0) {
        for (int32_t &sum : sums) sum = (sum + (1 << (shift - 1))) >> shift;
    } else {
        const int32_t most = 4 * HALF >> -shift;
        for (int32_t &sum : sums) sum = std::min(std::max(sum, -most), most) * (1 << -shift);
    }
    for (size_t entry = 0; entry < BLOCK; entry++) {
        scores[entry] = std::min(std::max(sums[entry] + bias[entry], -HALF), HALF - 1);
    }
}

using Scores = std::vector<int32_t>;

// Scores of all entries, and some behind them.
void score(const ReadOut &readout, const Matrix &matrix, const Events &events, Scores &scores) {
    scores.resize(matrix.bias.size());
    for (size_t block = 0; block * BLOCK < matrix.entries; block++) {
        score(readout, matrix, block, events, scores.data() + block * BLOCK);
    }
}

// The index of a power at some beta.
size_t power_index(int32_t distance, int32_t beta) {
    return static_cast<size_t>(std::min(((distance * beta >> 8) + 8) >> 4, 1023));
}

// The sum of the powers of scores, from their own largest one on.
uint64_t sum_powers(const ReadOut &readout, const int32_t *scores, size_t count, int32_t beta) {
    const int32_t largest = *std::max_element(scores, scores + count), *table = readout.exponential.data();
    uint64_t total = 0;
    for (size_t begin = 0; begin < count; begin += BLOCK) {
        const size_t end = std::min(begin + BLOCK, count);
        uint32_t sum = 0;  // of 64 powers of up to 2^23
        for (size_t at = begin; at < end; at++) sum += static_cast<uint32_t>(table[power_index(largest - scores[at], beta)]);
        total += sum;
    }
    return total;
}

int64_t logarithm(const ReadOut &readout, uint64_t total) {
    int place = 0;
    while (total >> (place + 24)) place++;
    uint64_t mantissa = (total + (uint64_t{1} << (12 + place))) >> (13 + place);
    if (mantissa >> 11) mantissa >>= 1, place++;
    return 45426 * place + readout.logarithm[mantissa - 1024];
}

// The logarithm of a sum of exponentials.
int64_t log_sum(const ReadOut &readout, const int32_t *scores, size_t count) {
    const int64_t largest = *std::max_element(scores, scores + count);
    return largest * 64 + logarithm(readout, sum_powers(readout, scores, count, BETA_ONE));
}

// A prediction whose read-out is still to be done.
struct Prediction {
    Events events;
    size_t word;
    int64_t *result;
    Scores head;

    void set(const Events &its, int32_t of, int64_t *to) { events = its, word = static_cast<size_t>(of), result = to; }
};

// Log-probabilities of words, for several predictions at once.
void read_out(const ReadOut &readout, std::vector<Prediction> &predictions, size_t count) {
    const Matrix &head = readout.matrices[0];
    Scores scores;
    for (size_t at = 0; at < count; at++) predictions[at].head.resize(head.bias.size());
    for (size_t block = 0; block * BLOCK < head.entries; block++) {
        for (size_t at = 0; at < count; at++) {
            score(readout, head, block, predictions[at].events, predictions[at].head.data() + block * BLOCK);
        }
    }
    for (size_t at = 0; at < count; at++) {
        const Prediction &one = predictions[at];
        const size_t number = readout.matrix[one.word], entry = readout.entry[one.word];
        int64_t found = -log_sum(readout, one.head.data(), head.entries);
        if (number == 0) {
            found += int64_t{one.head[entry]} * 64;
        } else {
            const Matrix &group = readout.matrices[number];
            score(readout, group, one.events, scores);
            found += log_sum(readout, one.head.data() + readout.head + (number - 1) * readout.rows, readout.rows);
            found += int64_t{scores[entry]} * 64 - log_sum(readout, scores.data(), group.entries);
        }
        *one.result = found;
    }
}

// How words are drawn: by factors, of all words, or of the `top` most probable ones.
constexpr size_t BY_FACTORS = 0, ALL_WORDS = 127;

// A logarithm as a score.
int32_t as_score(int64_t value) { return static_cast<int32_t>(std::clamp<int64_t>((value + 32) >> 6, -HALF, HALF - 1)); }

struct Sampler {
    uint64_t *state;
    int32_t beta;
    size_t top;

    uint64_t draw(uint64_t total) const {
        uint64_t mask = 0, drawn;
        while (mask < total - 1) mask = 2 * mask + 1;
        do {
            *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
            drawn = *state >> 24 & mask;
        } while (drawn >= total);
        return drawn;
    }

    // The place of one of several scores.
    size_t pick(const ReadOut &readout, const int32_t *scores, size_t count, int32_t at_beta) const {
        const int32_t largest = *std::max_element(scores, scores + count), *table = readout.exponential.data();
        const uint64_t number = draw(sum_powers(readout, scores, count, at_beta));
        uint64_t sum = 0;
        size_t at = 0;
        while ((sum += static_cast<uint64_t>(table[power_index(largest - scores[at], at_beta)])) <= number) at++;
        return at;
    }

    size_t sample(const ReadOut &readout, const Events &events) const {
        Scores scores;
        score(readout, readout.matrices[0], events, scores);
        if (top == ALL_WORDS && readout.matrices.size() > 1) return sample_all(readout, events, scores);
        if (top != BY_FACTORS && top != ALL_WORDS) return sample_top(readout, events, scores);
        const size_t entry = pick(readout, scores.data(), readout.matrices[0].entries, beta);
        if (entry < readout.head) return readout.order[entry];
        const size_t group = (entry - readout.head) / readout.rows;
        const Matrix &words = readout.matrices[group + 1];
        score(readout, words, events, scores);
        return readout.order[words.first + pick(readout, scores.data(), words.entries, beta)];
    }

    size_t sample_all(const ReadOut &readout, const Events &events, const Scores &head) const {
        struct Part {
            Scores scores;
            size_t words, first;
        };
        std::vector<Part> parts;
        std::vector<int64_t> weights;
        const auto add = [&](const Scores &scores, size_t words, size_t first, int64_t offset) {
            const int64_t best = as_score(offset + int64_t{*std::max_element(&scores[0], &scores[0] + words)} * 64);
            weights.push_back((best * beta >> 2) + logarithm(readout, sum_powers(readout, scores.data(), words, beta)));
            parts.push_back({scores, words, first});
        };
        const int64_t whole = log_sum(readout, head.data(), readout.matrices[0].entries);
        if (readout.head) add(head, readout.head, 0, -whole);
        Scores scores;
        for (size_t group = 0; group + 1 < readout.matrices.size(); group++) {
            const Matrix &words = readout.matrices[group + 1];
            score(readout, words, events, scores);
            const int64_t bound = log_sum(readout, head.data() + readout.head + group * readout.rows, readout.rows);
            add(scores, words.entries, words.first, bound - whole - log_sum(readout, scores.data(), words.entries));
        }
        const int64_t most = *std::max_element(weights.begin(), weights.end());
        scores.clear();
        for (const int64_t weight : weights) scores.push_back(as_score(weight - most));
        const Part &part = parts[pick(readout, scores.data(), scores.size(), BETA_ONE)];
        return readout.order[part.first + pick(readout, part.scores.data(), part.words, beta)];
    }

    size_t sample_top(const ReadOut &readout, const Events &events, const Scores &head) const {
        struct Word {
            int64_t value;
            size_t place;
            bool operator<(const Word &other) const {
                return value != other.value ? value > other.value : place < other.place;
            }
        };
        std::vector<Word> best, groups;
        const auto keep = [&] {
            const size_t kept = std::min(top, best.size());
            std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(kept), best.end());
            best.resize(kept);
        };
        const int64_t whole = log_sum(readout, head.data(), readout.matrices[0].entries);
        for (size_t at = 0; at < readout.head; at++) best.push_back({int64_t{head[at]} * 64 - whole, at});
        keep();
        for (size_t group = 0; group + 1 < readout.matrices.size(); group++) {
            const int32_t *rows = head.data() + readout.head + group * readout.rows;
            groups.push_back({log_sum(readout, rows, readout.rows) - whole, group});
        }
        std::sort(groups.begin(), groups.end());
        Scores scores;
        for (const auto [bound, group] : groups) {
            if (best.size() == top && bound < best.back().value) break;
            const Matrix &words = readout.matrices[group + 1];
            score(readout, words, events, scores);
            const int64_t own = bound - log_sum(readout, scores.data(), words.entries);
            for (size_t word = 0; word < words.entries; word++) {
                best.push_back({int64_t{scores[word]} * 64 + own, words.first + word});
            }
            keep();
        }
        if (best.size() == 1) return readout.order[best[0].place];
        scores.clear();
        for (const Word &word : best) scores.push_back(as_score(word.value));
        return readout.order[best[pick(readout, scores.data(), scores.size(), beta)].place];
    }
};

}  // namespace
