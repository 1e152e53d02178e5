// What integer.py and readout.py define, event by event, bit for bit, for native.py.
//
// Only columns of active sources are read, and of these only the non-zero weights: a weight is 8 bits, its row 16. What
// a token's embedding adds to layer 1 is kept once it was computed (folded rows), where that is asked for.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "native_readout.h"

namespace {

constexpr size_t PREDICTIONS = 8;  // whose read-out is done together
constexpr int EVENT_MAX = 255;

// The non-zero weights of a matrix, column by column.
struct Columns {
    std::vector<size_t> begin;
    std::vector<uint16_t> rows;
    std::vector<int8_t> weights;

    Columns(const int8_t *matrix, size_t height, size_t width) : begin(width + 1) {
        for (size_t at = 0; at < height * width; at++) begin[at % width + 1] += matrix[at] != 0;
        for (size_t source = 0; source < width; source++) begin[source + 1] += begin[source];
        rows.resize(begin[width]);
        weights.resize(begin[width]);
        std::vector<size_t> next(begin.begin(), begin.end() - 1);
        for (size_t row = 0; row < height; row++) {
            for (size_t source = 0; source < width; source++) {
                if (const int8_t weight = matrix[row * width + source]) {
                    rows[next[source]] = static_cast<uint16_t>(row);
                    weights[next[source]++] = weight;
                }
            }
        }
    }

    void add(const Events &active, int32_t *__restrict sums) const {
        const uint16_t *__restrict row = rows.data();
        const int8_t *__restrict weight = weights.data();
        for (size_t number = 0; number < active.size(); number++) {
            const auto [source, value] = active[number];
            if (number + 1 < active.size()) {  // the next column is on its way meanwhile
                const uint32_t next = active[number + 1].source;
                for (size_t at = begin[next]; at < begin[next + 1]; at += 32) {
                    __builtin_prefetch(row + at);
                    __builtin_prefetch(weight + at);
                }
            }
            const size_t end = begin[source + 1];
            for (size_t at = begin[source]; at < end; at++) sums[row[at]] += weight[at] * value;
        }
    }
};

struct Layer {
    size_t size;
    Columns x, y, s;
    const int32_t *bias, *threshold, *shift;
    const int32_t *bias_y;  // of reset "after"; null: "before"
};

struct Network {
    size_t inputs;
    const int8_t *embedding;
    std::vector<int32_t> sigmoid, tanh;  // from the lowest index
    std::vector<Layer> layers;
    std::vector<std::unique_ptr<int32_t[]>> rows;  // folded, with the bias: of a token that came, null of another one
    ReadOut readout;

    void embed(size_t token, Events &events) const {
        events.clear();
        for (size_t source = 0; source < inputs; source++) {
            if (const int32_t value = embedding[token * inputs + source]) {
                events.push_back({static_cast<uint32_t>(source), 2 * value});
            }
        }
    }

    void fold(size_t token) {
        if (token >= rows.size() || rows[token]) return;
        const Layer &first = layers[0];
        Events events;
        embed(token, events);
        std::unique_ptr<int32_t[]> row(new int32_t[3 * first.size]);
        std::copy_n(first.bias, 3 * first.size, row.get());
        first.x.add(events, row.get());
        rows[token] = std::move(row);
    }
};

// What a layer holds and did last.
struct Memory {
    std::vector<int32_t> sums, u, r, z, p, c, y;
    std::vector<int32_t> inner;  // of reset "after": what gate r scales
    Events before, reset, events;

    explicit Memory(size_t size) : sums(3 * size), u(size), r(size), z(size), p(size), c(size), y(size) {}
};

struct Stream {
    Network &network;
    std::vector<Memory> memories;
    Events input;

    explicit Stream(Network &network) : network(network) {
        for (const Layer &layer : network.layers) memories.emplace_back(layer.size);
    }

    void reset() {
        for (Memory &memory : memories) {
            std::fill(memory.c.begin(), memory.c.end(), 0);
            std::fill(memory.y.begin(), memory.y.end(), 0);
            memory.events.clear();
        }
    }

    void step(size_t token) {
        const int32_t *row = token < network.rows.size() ? network.rows[token].get() : nullptr;
        if (!row) network.embed(token, input);
        run(row);
    }

    // Every layer, on `input`, or on a row in its place.
    void run(const int32_t *row) {
        const Events *events = &input;
        for (size_t number = 0; number < memories.size(); number++) {
            const Layer &layer = network.layers[number];
            Memory &memory = memories[number];
            std::copy_n(row ? row : layer.bias, 3 * layer.size, memory.sums.data());
            if (!row) layer.x.add(*events, memory.sums.data());
            recur(layer, memory);
            row = nullptr;
            events = &memory.events;
        }
    }

    void gate(const std::vector<int32_t> &table, const int32_t *sums, int32_t shift, std::vector<int32_t> &gates) {
        const int32_t half = static_cast<int32_t>(table.size() / 2), rounding = 1 << (shift - 1);
        const int32_t *__restrict values = table.data();
        int32_t *__restrict result = gates.data();
        for (size_t neuron = 0; neuron < gates.size(); neuron++) {
            const int32_t index = (sums[neuron] + rounding) >> shift;
            result[neuron] = values[std::min(std::max(index, -half), half - 1) + half];
        }
    }

    // What remains of a step of a layer once its inputs are added.
    void recur(const Layer &layer, Memory &memory) {
        const size_t size = layer.size;
        int32_t *sums = memory.sums.data();
        memory.before.swap(memory.events);
        layer.y.add(memory.before, sums);
        gate(network.sigmoid, sums, layer.shift[0], memory.u);
        gate(network.sigmoid, sums + size, layer.shift[1], memory.r);
        if (layer.bias_y) {
            memory.reset = memory.before;
            memory.inner.assign(layer.bias_y, layer.bias_y + size);
            layer.s.add(memory.reset, memory.inner.data());
            for (size_t neuron = 0; neuron < size; neuron++) {
                sums[2 * size + neuron] += (memory.r[neuron] * memory.inner[neuron] + 128) >> 8;
            }
        } else {
            memory.reset.clear();
            for (const auto [source, value] : memory.before) {
                if (const int32_t s = (memory.r[source] * value + 128) >> 8) memory.reset.push_back({source, s});
            }
            layer.s.add(memory.reset, sums + 2 * size);
        }
        gate(network.tanh, sums + 2 * size, layer.shift[2], memory.z);
        const int32_t *__restrict u = memory.u.data(), *__restrict z = memory.z.data();
        const int32_t *__restrict threshold = layer.threshold;
        int32_t *__restrict p = memory.p.data(), *__restrict c = memory.c.data(), *__restrict y = memory.y.data();
        for (size_t neuron = 0; neuron < size; neuron++) {
            const int32_t state = c[neuron], reached = state + ((u[neuron] * (z[neuron] - state) + 128) >> 8);
            const bool fires = reached >= threshold[neuron];
            p[neuron] = reached;
            y[neuron] = fires ? std::min((reached + 32) >> 6, EVENT_MAX) : 0;
            c[neuron] = fires ? reached - threshold[neuron] : reached;
        }
        memory.events.resize(size);
        size_t found = 0;
        for (size_t neuron = 0; neuron < size; neuron++) {
            memory.events[found] = {static_cast<uint32_t>(neuron), y[neuron]};
            found += y[neuron] != 0;
        }
        memory.events.resize(found);
    }
};

// Work in `threads` threads; meanwhile, in this one, `report` ten times a second. True from it stops the work.
template <typename Work, typename Report>
bool spread(unsigned threads, const Work &work, const Report &report, std::atomic<bool> &stop) {
    std::mutex mutex;
    std::condition_variable ended;
    unsigned left = threads;
    std::vector<std::thread> running;
    for (unsigned number = 0; number < threads; number++) {
        running.emplace_back([&] {
            work();
            const std::lock_guard<std::mutex> lock(mutex);
            left--;
            ended.notify_one();
        });
    }
    std::unique_lock<std::mutex> lock(mutex);
    while (!ended.wait_for(lock, std::chrono::milliseconds(100), [&] { return left == 0; })) {
        lock.unlock();
        if (report()) stop = true;
        lock.lock();
    }
    lock.unlock();
    for (std::thread &thread : running) thread.join();
    return !stop;
}

void sparse(const int32_t *values, size_t size, Events &events) {
    events.clear();
    for (size_t source = 0; source < size; source++) {
        if (values[source]) events.push_back({static_cast<uint32_t>(source), values[source]});
    }
}

}  // namespace

// What native.py calls. Arrays that are given stay where they are as long as the network does.
extern "C" {

Network *network_new(size_t inputs, const int8_t *embedding, size_t indices, const int32_t *sigmoid,
                     const int32_t *tanh) {
    Network *network = new Network{};
    network->inputs = inputs, network->embedding = embedding;
    // From two's-complement order.
    for (auto [from, to] : {std::pair{sigmoid, &network->sigmoid}, std::pair{tanh, &network->tanh}}) {
        to->assign(from + indices / 2, from + indices);
        to->insert(to->end(), from, from + indices / 2);
    }
    return network;
}

void network_layer(Network *network, size_t inputs, size_t size, const int8_t *weight_x, const int8_t *weight_y,
                   const int32_t *bias, const int32_t *threshold, const int32_t *shift, const int32_t *bias_y) {
    network->layers.push_back({size, Columns(weight_x, 3 * size, inputs), Columns(weight_y, 2 * size, size),
                               Columns(weight_y + 2 * size * size, size, size), bias, threshold, shift, bias_y});
}

void network_read_out(Network *network, size_t words, size_t outputs, size_t head, size_t rows, int fraction,
                      const int32_t *exponential, const int32_t *logarithm, const uint32_t *order,
                      const uint32_t *matrix, const uint32_t *entry) {
    ReadOut &readout = network->readout;
    readout.outputs = outputs, readout.head = head, readout.rows = rows, readout.shift = fraction - SCORE_FRACTION;
    readout.exponential.assign(exponential, exponential + 1024);
    readout.logarithm.assign(logarithm, logarithm + 1024);
    readout.order.assign(order, order + words);
    readout.matrix.assign(matrix, matrix + words);
    readout.entry.assign(entry, entry + words);
}

// The head first, then each group.
void network_matrix(Network *network, size_t entries, const int8_t *weight, const int32_t *bias) {
    const size_t blocks = (entries + BLOCK - 1) / BLOCK, outputs = network->readout.outputs;
    const size_t number = network->readout.matrices.size();
    size_t first = number ? network->readout.head : 0;
    for (size_t group = 1; group < number; group++) first += network->readout.matrices[group].entries;
    Matrix matrix{entries, first, std::vector<int8_t>(blocks * BLOCK * outputs), std::vector<int32_t>(blocks * BLOCK)};
    std::copy_n(bias, entries, matrix.bias.begin());
    for (size_t entry = 0; entry < entries; entry++) {
        int8_t *column = matrix.weights.data() + entry / BLOCK * BLOCK * outputs + entry % BLOCK;
        for (size_t source = 0; source < outputs; source++) column[source * BLOCK] = weight[entry * outputs + source];
    }
    network->readout.matrices.push_back(std::move(matrix));
}

void network_fold(Network *network, size_t tokens) { network->rows.resize(tokens); }

void network_free(Network *network) { delete network; }

Stream *stream_new(Network *network) { return new Stream(*network); }

void stream_free(Stream *stream) { delete stream; }

void stream_step(Stream *stream, size_t token) {
    stream->network.fold(token);
    stream->step(token);
}

void stream_step_events(Stream *stream, const int32_t *values) {
    sparse(values, stream->network.inputs, stream->input);
    stream->run(nullptr);
}

// What a layer did in the last step, into zeros: y_before, s, sums, u, r, z, p, c, y.
void stream_trace(const Stream *stream, size_t number, int32_t *const *arrays) {
    const Memory &memory = stream->memories[number];
    for (const Event &event : memory.before) arrays[0][event.source] = event.value;
    for (const Event &event : memory.reset) arrays[1][event.source] = event.value;
    const std::vector<int32_t> *kept[] = {&memory.sums, &memory.u, &memory.r, &memory.z, &memory.p, &memory.c,
                                          &memory.y};
    for (size_t array = 0; array < 7; array++) std::copy(kept[array]->begin(), kept[array]->end(), arrays[2 + array]);
}

// The word that follows, by a generator's state, which goes on.
size_t stream_sample(const Stream *stream, uint64_t *state, int32_t beta, size_t top) {
    return Sampler{state, beta, top}.sample(stream->network.readout, stream->memories.back().events);
}

// The same behind events that are given.
size_t network_sample(const Network *network, const int32_t *y, uint64_t *state, int32_t beta, size_t top) {
    Events events;
    sparse(y, network->readout.outputs, events);
    return Sampler{state, beta, top}.sample(network->readout, events);
}

// Of one word for each row of events.
void network_log_probabilities(const Network *network, size_t count, const int32_t *y, const int32_t *words,
                               int64_t *result) {
    std::vector<Prediction> predictions(1);
    Events events;
    for (size_t at = 0; at < count; at++) {
        sparse(y + at * network->readout.outputs, network->readout.outputs, events);
        predictions[0].set(events, words[at], result + at);
        read_out(network->readout, predictions, 1);
    }
}

// Run streams, each from zero state through so many tokens of a text: for each of these the log-probability of the one
// behind it, and how often each source was active, layer by layer [y_before, s, events]; behind these, how often each
// source of the last layer was active before a word of each group. True when done, false when `report`, called with the
// steps done, has stopped it.
bool network_run(Network *network, const int32_t *ids, size_t streams, const size_t *starts, const size_t *steps,
                 unsigned threads, int64_t *result, int64_t *counts, bool (*report)(size_t)) {
    std::atomic<bool> stop{false};
    std::atomic<size_t> next{0}, done{0};
    std::vector<size_t> tokens;
    if (!network->rows.empty()) {
        for (size_t stream = 0; stream < streams; stream++) {
            tokens.insert(tokens.end(), ids + starts[stream], ids + starts[stream] + steps[stream]);
        }
        std::sort(tokens.begin(), tokens.end());
        tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    }
    std::mutex mutex;
    const ReadOut &readout = network->readout;
    size_t sources = (readout.matrices.size() - 1) * readout.outputs;
    for (const Layer &layer : network->layers) sources += 3 * layer.size;
    const auto fold = [&] {
        for (size_t at; !stop && (at = next++) < tokens.size();) network->fold(tokens[at]);
    };
    const auto run = [&] {
        Stream stream(*network);
        std::vector<Prediction> predictions(PREDICTIONS);
        std::vector<int64_t> counted(sources);
        for (size_t number; (number = next++) < streams;) {
            stream.reset();
            size_t waiting = 0;
            for (size_t at = starts[number]; !stop && at < starts[number] + steps[number]; at++) {
                stream.step(static_cast<size_t>(ids[at]));
                int64_t *to = counted.data();
                for (const Memory &memory : stream.memories) {
                    for (const Events *events : {&memory.before, &memory.reset, &memory.events}) {
                        for (const Event &event : *events) to[event.source]++;
                        to += memory.y.size();
                    }
                }
                if (const size_t group = readout.matrix[static_cast<size_t>(ids[at + 1])]) {
                    to += (group - 1) * readout.outputs;
                    for (const Event &event : stream.memories.back().events) to[event.source]++;
                }
                predictions[waiting++].set(stream.memories.back().events, ids[at + 1], result + at);
                if (waiting == PREDICTIONS) read_out(readout, predictions, std::exchange(waiting, 0));
                done++;
            }
            read_out(readout, predictions, waiting);
        }
        const std::lock_guard<std::mutex> lock(mutex);
        for (size_t at = 0; at < counted.size(); at++) counts[at] += counted[at];
    };
    const auto tell = [&] { return report(done); };
    if (!spread(threads, fold, tell, stop)) return false;
    return next = 0, spread(threads, run, tell, stop);
}

// Seconds of each of so many steps of one stream from zero state, in this thread: without the read-out, or with it, a
// prediction at a time.
void network_time(Network *network, const int32_t *ids, size_t steps, bool whole, double *seconds) {
    Stream stream(*network);
    std::vector<Prediction> predictions(1);
    int64_t result;
    for (size_t at = 0; at < steps; at++) {
        const auto begin = std::chrono::steady_clock::now();
        stream_step(&stream, static_cast<size_t>(ids[at]));
        if (whole) {
            predictions[0].set(stream.memories.back().events, ids[at + 1], &result);
            read_out(network->readout, predictions, 1);
        }
        seconds[at] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
}
}
