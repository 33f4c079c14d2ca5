// Spike codec "context": adaptive binary arithmetic coding of spike trains with mixed predictions. Integers only, so
// every machine gets the same bits. The format is docs/wire-format.md, section 5; contexttwin.py is the same in Python.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(_WIN32)
#define SPIKEFED_API extern "C" __declspec(dllexport)
#else
#define SPIKEFED_API extern "C" __attribute__((visibility("default")))
#endif
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define SPIKEFED_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define SPIKEFED_CLONES
#endif

namespace {

// Mirrored field by field in contextnative.py.
struct Job {
    uint8_t *spikes;         // Algorithm 2 bits of this message: read when encoding, written when decoding
    const uint8_t *global;   // Algorithm 2 bits of the side information, or null
    const uint8_t *previous; // Algorithm 2 bits of the stream's last message, or null
    const int32_t *near;     // [rows, NEAR] earlier rows with alike images, -1 = none, or null
    uint8_t *code;           // payload
    uint32_t *tables;        // [INPUTS][1 << TABLE_BITS] counters: probability << 10 | count
    int32_t *weights;        // [SETS][STRIDE]
    int64_t *coded;          // decisions coded so far, per kind of decision
    const uint16_t *squash;  // [6143], index x + 3071
    const int16_t *stretch;  // [4096], index probability >> 4
    int64_t rows, classes, steps;
    int64_t code_size;       // capacity when encoding, payload bytes when decoding
    int64_t decode, measure;
    double ideal_bits;       // sum of -log2 p, when measure is set
    int64_t decisions;
};

constexpr int STRIDE = 12, LIMIT = 3071, NEAR = 5, TABLE_BITS = 12;
constexpr int INPUTS[3] = {10, 5, 9}, FIRST[3] = {0, 10, 15}; // silent?, full?, bit: inputs and first table
constexpr int SETS_A[3] = {0, 60, 120}, SETS_B[3] = {36, 96, 376}; // first weight set of each selector
constexpr int COUNT_LIMIT = 255, WEIGHT_LIMIT = (1 << 18) - 1, BIAS = 77, RATE_MIN = 131;
constexpr uint64_t GOLDEN = 0x9E3779B97F4A7C15ull, MIX = 0xD6E8FEB86659FD93ull;

struct Reader {
    const uint8_t *data;
    int64_t steps, bytes;
    uint64_t train(int64_t index) const {
        if (steps == 8) return data[index];
        uint64_t value = 0;
        const int64_t begin = index * steps, end = begin + steps;
        for (int64_t bit = begin; bit < end;) {
            const int take = static_cast<int>(std::min<int64_t>(8 - (bit & 7), end - bit));
            const int byte = data[bit >> 3];
            value = value << take | ((byte >> (8 - (bit & 7) - take)) & ((1 << take) - 1));
            bit += take;
        }
        return value;
    }
};

void write_train(uint8_t *data, int64_t steps, int64_t index, uint64_t value) { // into zeroed memory
    if (steps == 8) {
        data[index] = static_cast<uint8_t>(value);
        return;
    }
    const int64_t begin = index * steps, end = begin + steps;
    for (int64_t bit = begin; bit < end;) {
        const int take = static_cast<int>(std::min<int64_t>(8 - (bit & 7), end - bit));
        const int part = static_cast<int>(value >> (end - bit - take)) & ((1 << take) - 1);
        data[bit >> 3] |= static_cast<uint8_t>(part << (8 - (bit & 7) - take));
        bit += take;
    }
}

inline int popcount(uint64_t value) {
#if defined(__GNUC__)
    return __builtin_popcountll(value);
#else
    int count = 0;
    for (; value; value &= value - 1) ++count;
    return count;
#endif
}

struct Coder {
    Job &job;
    uint32_t low = 0, high = 0xFFFFFFFFu, window = 0;
    int64_t position = 0, emitted = 0;
    bool overflow = false;
    int32_t rate[3];
    uint32_t reciprocal[COUNT_LIMIT + 1];
    uint32_t *slot[STRIDE];
    int32_t x[STRIDE];

    explicit Coder(Job &j) : job(j) {
        for (int n = 1; n <= COUNT_LIMIT; ++n) reciprocal[n] = 655360u / (10 * n + 9);
        reciprocal[0] = 0;
        for (int kind = 0; kind < 3; ++kind) set_rate(kind);
        if (job.decode)
            for (int i = 0; i < 4; ++i) window = window << 8 | next();
    }
    uint32_t next() { return position < job.code_size ? job.code[position++] : (++position, 0u); }
    void set_rate(int kind) {
        const int64_t rate_now = 2622000 / (2000 + job.coded[kind]);
        rate[kind] = static_cast<int32_t>(std::max<int64_t>(RATE_MIN, rate_now));
    }
    int squash(int v) const { return job.squash[std::min(std::max(v, -LIMIT), LIMIT) + LIMIT]; }

    // Codes one binary decision of this kind under these contexts; returns the bit.
    inline int decide(int kind, const uint64_t *keys, int set_a, int set_b, int bit) {
        const int inputs = INPUTS[kind];
        uint32_t *table = job.tables + (static_cast<int64_t>(FIRST[kind]) << TABLE_BITS);
        for (int i = 0; i < inputs; ++i) {
            slot[i] = table + (static_cast<int64_t>(i) << TABLE_BITS) + ((keys[i] * GOLDEN) >> (64 - TABLE_BITS));
            const uint32_t counter = *slot[i];
            x[i] = (counter & 1023u) ? job.stretch[counter >> 20] : 0;
        }
        x[inputs] = BIAS;
        for (int i = inputs + 1; i < STRIDE; ++i) x[i] = 0;
        int32_t *a = job.weights + static_cast<int64_t>(SETS_A[kind] + set_a) * STRIDE;
        int32_t *b = job.weights + static_cast<int64_t>(SETS_B[kind] + set_b) * STRIDE;
        int32_t dot_a = 0, dot_b = 0;
        for (int i = 0; i < STRIDE; ++i) {
            dot_a += (a[i] * x[i]) >> 8;
            dot_b += (b[i] * x[i]) >> 8;
        }
        dot_a = std::min(std::max(dot_a >> 8, -LIMIT), LIMIT);
        dot_b = std::min(std::max(dot_b >> 8, -LIMIT), LIMIT);
        const int p = squash((dot_a + dot_b) >> 1);
        bit = code(bit, static_cast<uint32_t>(p));
        ++job.decisions;
        if (job.measure) job.ideal_bits -= std::log2((bit ? p : 65536 - p) / 65536.0);

        const int32_t step_a = (((bit << 16) - squash(dot_a)) * rate[kind]) >> 10;
        const int32_t step_b = (((bit << 16) - squash(dot_b)) * rate[kind]) >> 10;
        for (int i = 0; i < STRIDE; ++i) {
            const int32_t to_a = a[i] + ((step_a * x[i] + 8192) >> 14), to_b = b[i] + ((step_b * x[i] + 8192) >> 14);
            a[i] = std::min(std::max(to_a, -WEIGHT_LIMIT), WEIGHT_LIMIT);
            b[i] = std::min(std::max(to_b, -WEIGHT_LIMIT), WEIGHT_LIMIT);
        }
        const int64_t target = bit ? (1 << 22) - 1 : 0;
        for (int i = 0; i < inputs; ++i) {
            const uint32_t counter = *slot[i];
            uint32_t count = counter & 1023u;
            int64_t estimate = count ? counter >> 10 : static_cast<uint32_t>(p) << 6;
            if (count < COUNT_LIMIT) ++count;
            estimate += ((target - estimate) * static_cast<int64_t>(reciprocal[count])) >> 16;
            *slot[i] = static_cast<uint32_t>(estimate) << 10 | count;
        }
        if ((++job.coded[kind] & 63) == 0) set_rate(kind);
        return bit;
    }

    inline int code(int bit, uint32_t p) {
        const uint32_t middle = low + static_cast<uint32_t>((static_cast<uint64_t>(high - low) * p) >> 16);
        if (job.decode) bit = window <= middle;
        if (bit)
            high = middle;
        else
            low = middle + 1;
        while (((low ^ high) & 0xFF000000u) == 0) {
            if (job.decode)
                window = window << 8 | next();
            else
                put(high >> 24);
            ++emitted;
            low <<= 8;
            high = high << 8 | 255u;
        }
        return bit;
    }
    void put(uint32_t byte) {
        if (position < job.code_size)
            job.code[position++] = static_cast<uint8_t>(byte);
        else
            overflow = true;
    }
    // The fewest bytes that, followed by zeros, lie in [low, high].
    int tail(uint32_t &value) const {
        for (int bytes = 0; bytes < 4; ++bytes) {
            value = bytes ? high & ~(0xFFFFFFFFu >> (8 * bytes)) : 0;
            if (value >= low) return bytes;
        }
        value = high;
        return 4;
    }
    // Encoding: payload bytes, or -1 when they do not fit. Decoding: 0, or -2 when the payload is not what encode writes.
    int64_t finish() {
        uint32_t value = 0;
        const int bytes = tail(value);
        if (!job.decode) {
            for (int i = 0; i < bytes; ++i) put(value >> (24 - 8 * i) & 255u);
            if (overflow) return -1;
            while (position > 0 && job.code[position - 1] == 0) --position;
            return position;
        }
        const int64_t size = job.code_size;
        if (size > 0 && job.code[size - 1] == 0) return -2;
        if (bytes == 0) return size <= emitted ? 0 : -2;
        if (size != emitted + bytes) return -2;
        for (int i = 0; i < bytes; ++i)
            if (job.code[emitted + i] != (value >> (24 - 8 * i) & 255u)) return -2;
        return 0;
    }
};

inline int shape_of(uint64_t train, int count, int steps) {
    (void)train;
    return count == 0 ? 0 : count == steps ? 1 : count == 1 ? 2 : 2 * count <= steps ? 3 : 4;
}

struct Row {
    std::vector<int> order, score, g_count, p_count, n_spikes, n_fired;
    std::vector<uint64_t> g, p, n;
    explicit Row(int64_t c) : order(c), score(c), g_count(c), p_count(c), n_spikes(c), n_fired(c), g(c), p(c), n(c) {}
};

SPIKEFED_CLONES int64_t run(Job &job) {
    const int64_t C = job.classes;
    const int T = static_cast<int>(job.steps);
    const uint64_t full = T == 64 ? ~0ull : (1ull << T) - 1;
    const Reader now{job.spikes, T, 0}, global{job.global, T, 0}, previous{job.previous, T, 0};
    Coder coder(job);
    Row row(C);
    std::fill(row.g.begin(), row.g.end(), 0);
    uint64_t keys[STRIDE];
    for (int64_t r = 0; r < job.rows; ++r) {
        const int64_t base = r * C;
        int remain = 0, g_top = static_cast<int>(C), p_top = g_top, n_top = g_top, g_best = 0, p_best = 0, n_best = 0;
        const int32_t *near = job.near ? job.near + r * NEAR : nullptr;
        const bool has_near = near && near[0] >= 0;
        for (int c = 0; c < C; ++c) {
            row.g[c] = job.global ? global.train(base + c) : 0;
            row.p[c] = job.previous ? previous.train(base + c) : 0;
            row.g_count[c] = popcount(row.g[c]);
            row.p_count[c] = popcount(row.p[c]);
            row.score[c] = row.g_count[c] + row.p_count[c];
            row.order[c] = c;
            remain += row.score[c] > 0;
            if (row.g_count[c] > g_best) g_best = row.g_count[c], g_top = c;
            if (row.p_count[c] > p_best) p_best = row.p_count[c], p_top = c;
            row.n[c] = 0;
            row.n_spikes[c] = row.n_fired[c] = 0;
            if (has_near) {
                row.n[c] = now.train(near[0] * C + c);
                for (int k = 0; k < NEAR && near[k] >= 0; ++k) {
                    const int count = popcount(now.train(near[k] * C + c));
                    row.n_spikes[c] += count;
                    row.n_fired[c] += count > 0;
                }
                if (row.n_spikes[c] > n_best) n_best = row.n_spikes[c], n_top = c;
            }
        }
        if (remain) // likely classes first; equal scores keep their order
            std::stable_sort(row.order.begin(), row.order.end(),
                             [&](int a, int b) { return row.score[a] > row.score[b]; });
        int fired = 0, fired_full = 0, surprises = 0, best = 0, top = static_cast<int>(C);
        uint64_t any = 0;
        for (int j = 0; j < C; ++j) {
            const int c = row.order[j];
            const uint64_t g = row.g[c], p = row.p[c], n = row.n[c];
            const int gs = job.global ? shape_of(g, row.g_count[c], T) : 5;
            const int ps = job.previous ? shape_of(p, row.p_count[c], T) : 5;
            const int ns = has_near ? shape_of(n, popcount(n), T) : 5;
            const int gp = gs * 6 + ps, spikes = row.n_spikes[c], alike = row.n_fired[c], f = std::min(fired, 3);
            const int state = (f * 2 + (fired_full > 0)) * 3 + std::min(remain, 2);
            const int strength = best == 0 ? 0 : best <= 2 ? 1 : best <= T / 2 ? 2 : best < T ? 3 : 4;
            if (row.score[c] > 0) --remain;
            const uint64_t cc = static_cast<uint64_t>(c), wide = static_cast<uint64_t>(C) + 1;
            uint64_t v = job.decode ? 0 : now.train(base + c);
            keys[0] = gp;
            keys[1] = cc * 36 + gp;
            keys[2] = gp * 5 + strength;
            keys[3] = (gp * 16 + std::min(j, 15)) * 4 + f;
            keys[4] = (cc * wide + g_top) * 6 + ps;
            keys[5] = (cc * wide + p_top) * 6 + gs;
            keys[6] = (cc * wide + top) * 36 + gp;
            keys[7] = (cc * wide + n_top) * 36 + gp;
            keys[8] = (gp * 6 + ns) * 6 + alike;
            keys[9] = (cc * 6 + alike) * 512 + spikes;
            if (coder.decide(0, keys, gp, state, v == 0)) {
                surprises += g != 0;
                continue;
            }
            keys[0] = gp;
            keys[1] = cc * 36 + gp;
            keys[2] = (gp * 5 + strength) * 4 + std::min(surprises, 3);
            keys[3] = (gp * 6 + ns) * 6 + alike;
            keys[4] = spikes * 24 + state;
            int count = 0;
            if (T == 1 || coder.decide(1, keys, gp, state, v == full)) { // at T = 1 what is not silent is full
                v = full;
                count = T;
                ++fired_full;
            } else {
                uint64_t node = 1;
                int match_g = g != 0, match_p = p != 0;
                for (int t = 0; t < T; ++t) {
                    const int shift = T - 1 - t;
                    if (shift == 0 && (count == 0 || count == T - 1)) { // neither silent nor full: the last bit is known
                        const int bit = count == 0;
                        node = node * 2 + bit;
                        count += bit;
                        break;
                    }
                    const int gb = g >> shift & 1, pb = p >> shift & 1, nb = n >> shift & 1, last = node & 7;
                    const int around = (t ? g >> (shift + 1) & 1 : 0) << 2 | gb << 1 | (shift ? g >> (shift - 1) & 1 : 0);
                    int votes = 0;
                    if (has_near)
                        for (int k = 0; k < NEAR && near[k] >= 0; ++k)
                            votes += now.train(near[k] * C + c) >> shift & 1;
                    keys[0] = ((around * 2 + match_g) * 6 + gs) * 8 + last;
                    keys[1] = ((gb * 2 + pb) * 4 + match_g * 2 + match_p) * 36 + gp;
                    keys[2] = t * 256 + (node & 255);
                    keys[3] = g * MIX + node;
                    keys[4] = ((cc * 64 + t) * 4 + std::min(count, 3)) * 4 + (last & 3);
                    keys[5] = (((gb * 2 + pb) * 2 + (any >> shift & 1)) * 8 + last) * 4 + match_p * 2 + match_g;
                    keys[6] = ((((ns * 6 + votes) * 2 + nb) * 4 + gb * 2 + pb) * 64 + t) * 4 + (last & 3);
                    keys[7] = (spikes * 8 + last) * 64 + t;
                    keys[8] = n * MIX + node;
                    const int bit = coder.decide(2, keys, t * 4 + match_g * 2 + match_p, gp, v >> shift & 1);
                    node = node * 2 + bit;
                    count += bit;
                    match_g &= bit == gb;
                    match_p &= bit == pb;
                }
                v = node & full; // drops the leading one; at 64 steps it has already left the word
            }
            if (job.decode) write_train(job.spikes, T, base + c, v);
            ++fired;
            any |= v;
            surprises += g == 0;
            if (count > best) best = count, top = c;
        }
        if (coder.overflow) return -1;
    }
    return coder.finish();
}

} // namespace

SPIKEFED_API int64_t spikefed_context_size() { return sizeof(Job); }

// Encodes or decodes a whole message. Returns payload bytes (encode), 0 (decode), -1 (does not fit), -2 (not canonical).
SPIKEFED_API int64_t spikefed_context_run(Job *job) { return run(*job); }
