// Fused normalisation + LIF + 2x2 average pool. Included once per instruction set, inside a namespace of its own, after
// <cstdint>, <cstdlib>, <cstring>, <cmath>: no standard template may be instantiated here (the linker could then hand a
// wide-vector copy to a machine without wide vectors).
//
// Work is cut into tiles: contiguous runs of rows whose membranes stay in the first cache levels while time advances. Sums are
// taken over a fixed number of chunks that does not depend on the thread count, and added in chunk order: results repeat bit for
// bit, on any number of threads.

using F32 = float;
using BF16 = uint16_t;

static inline float load(float v) { return v; }
static inline float load(uint16_t v) {
    const uint32_t bits = static_cast<uint32_t>(v) << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static inline float load(uint8_t v) { return static_cast<float>(v); } // bytes of 0 and 1
static inline void store(float *p, float v) { *p = v; }
static inline void store(uint16_t *p, float v) { // round to nearest even
    uint32_t bits;
    memcpy(&bits, &v, 4);
    *p = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static constexpr int64_t kTile = 2048;    // elements of a tile (more if one row or one pooled row pair is longer)
static constexpr int64_t kRun = 256;      // parameters are repeated over rows until a run has at least this many elements
static constexpr int64_t kChunkRows = 64; // least rows of a chunk
static constexpr int64_t kMaxChunks = 64;

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
// Zeroed memory on a cache-line border (an unaligned vector load that crosses lines costs two).
template <class T> static T *scratch(int64_t n) {
    void *raw = calloc(1, static_cast<size_t>(n) * sizeof(T) + 128);
    const uintptr_t aligned = (reinterpret_cast<uintptr_t>(raw) + 64 + 63) & ~static_cast<uintptr_t>(63);
    reinterpret_cast<void **>(aligned)[-1] = raw;
    return reinterpret_cast<T *>(aligned);
}
static void release(void *p) {
    if (p) free(static_cast<void **>(p)[-1]);
}

// Per-channel numbers repeated over `repeat` rows, for every group: [G][L].
struct Params {
    int64_t run; // L = C * rows repeated
    float *mean, *rstd, *gain, *bias;
};

static Params make_params(const NormLif &a) {
    const int64_t C = a.channels, G = a.norm == 2 ? a.steps : 1, rows = C >= kRun ? 1 : (kRun + C - 1) / C;
    Params p{C * rows, nullptr, nullptr, nullptr, nullptr};
    if (a.norm == 0) {
        p.run = kTile * 4;
        return p;
    }
    float *all = scratch<float>(4 * G * p.run);
    p.mean = all, p.rstd = all + G * p.run, p.gain = all + 2 * G * p.run, p.bias = all + 3 * G * p.run;
    for (int64_t g = 0; g < G; ++g)
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < C; ++c) {
                const int64_t to = g * p.run + r * C + c, from = g * C + c;
                p.mean[to] = a.mean[from];
                p.rstd[to] = a.rstd[from];
                p.gain[to] = a.scale * a.rstd[from] * (a.weight ? a.weight[from] : 1.0f);
                p.bias[to] = a.bias ? a.bias[from] : 0.0f;
            }
    return p;
}

// ---- statistics ---------------------------------------------------------------------------------------------------------------

// Adds sum and sum of squares of (x - shift) over `rows` rows to the doubles `total` [2][C].
template <class E> static void sum_rows(const E *x, const float *shift, int64_t rows, int64_t C, float *acc, double *total) {
    int64_t r = 0;
    while (r < rows) {
        const int64_t stop = smaller(r + 64, rows);
        memset(acc, 0, sizeof(float) * static_cast<size_t>(2 * C));
        float *__restrict s1 = acc, *__restrict s2 = acc + C;
        for (; r < stop; ++r) {
            const E *__restrict row = x + r * C;
            for (int64_t c = 0; c < C; ++c) {
                const float d = load(row[c]) - shift[c];
                s1[c] += d;
                s2[c] += d * d;
            }
        }
        for (int64_t c = 0; c < 2 * C; ++c) total[c] += static_cast<double>(acc[c]);
    }
}

template <class E> static void statistics(const NormLif &a) {
    const int64_t C = a.channels, G = a.norm == 2 ? a.steps : 1;
    if (!a.batch_statistics) {
        for (int64_t i = 0; i < G * C; ++i) {
            a.mean[i] = a.running_mean[i];
            a.rstd[i] = 1.0f / sqrtf(a.running_var[i] + a.eps);
        }
        return;
    }
    const E *x = static_cast<const E *>(a.x);
    const int64_t sets = a.repeat ? 1 : G;                            // groups that differ
    const int64_t rows = a.norm == 2 || a.repeat ? a.rows : a.steps * a.rows; // rows of each
    const int64_t chunks = larger(1, smaller(kMaxChunks, rows / kChunkRows));
    double *partial = scratch<double>(sets * chunks * 2 * C);
    float *shift = scratch<float>(sets * C);
    for (int64_t g = 0; g < sets; ++g)
        for (int64_t c = 0; c < C; ++c) shift[g * C + c] = load(x[g * rows * C + c]);
    parallel(sets * chunks, a.threads, [&](int64_t begin, int64_t end) {
        float *acc = scratch<float>(2 * C);
        for (int64_t i = begin; i < end; ++i) {
            const int64_t g = i / chunks, k = i % chunks, from = rows * k / chunks, to = rows * (k + 1) / chunks;
            sum_rows(x + (g * rows + from) * C, shift + g * C, to - from, C, acc, partial + i * 2 * C);
        }
        release(acc);
    });
    const double n = static_cast<double>(rows);
    const double counted = a.norm == 2 ? n : static_cast<double>(a.steps * a.rows); // rows the unbiased variance counts
    const double unbias = counted / (counted > 1 ? counted - 1 : 1);
    for (int64_t g = 0; g < G; ++g)
        for (int64_t c = 0; c < C; ++c) {
            const int64_t s = a.repeat ? 0 : g;
            double s1 = 0, s2 = 0;
            for (int64_t k = 0; k < chunks; ++k) {
                s1 += partial[(s * chunks + k) * 2 * C + c];
                s2 += partial[(s * chunks + k) * 2 * C + C + c];
            }
            const double off = s1 / n, spread = s2 / n - off * off, var = spread > 0 ? spread : (spread == spread ? 0 : spread);
            const int64_t i = g * C + c;
            a.mean[i] = static_cast<float>(shift[s * C + c] + off);
            a.rstd[i] = 1.0f / sqrtf(static_cast<float>(var) + a.eps);
            if (a.running_mean) {
                a.running_mean[i] += a.momentum * (a.mean[i] - a.running_mean[i]);
                a.running_var[i] += a.momentum * (static_cast<float>(var * unbias) - a.running_var[i]);
            }
        }
    release(shift);
    release(partial);
}

// ---- tiles --------------------------------------------------------------------------------------------------------------------

struct Tile {
    int64_t row, rows; // rows [row, row + rows) of one time step
    int64_t out_row;   // first pooled row, or -1: nothing of this tile is pooled (odd last image row)
};

struct Tiling {
    int64_t count, rows, pairs; // pairs: pooled row pairs per image (0 = no pooling)
};

static Tiling make_tiling(const NormLif &a, bool odd_rows_too) {
    Tiling t{};
    if (a.pool) {
        const int64_t images = a.rows / (a.height * a.width);
        t.pairs = a.height / 2 + (odd_rows_too && a.height % 2 ? 1 : 0);
        t.rows = 2 * a.width;
        t.count = images * t.pairs;
    } else {
        t.rows = larger(1, kTile / a.channels);
        t.count = (a.rows + t.rows - 1) / t.rows;
    }
    return t;
}

static Tile tile_at(const NormLif &a, const Tiling &t, int64_t i) {
    if (!a.pool) return Tile{i * t.rows, smaller(t.rows, a.rows - i * t.rows), i * t.rows};
    const int64_t image = i / t.pairs, pair = i % t.pairs, half = a.height / 2;
    const int64_t row = (image * a.height + 2 * pair) * a.width;
    if (pair == half) return Tile{row, a.width, -1};
    return Tile{row, 2 * a.width, (image * half + pair) * (a.width / 2)};
}

// ---- forward ------------------------------------------------------------------------------------------------------------------

// One step of the membranes of a tile: potentials before reset go to `u`, carried ones to `v`.
template <class E, bool NORM, bool SOFT>
static void advance(const NormLif &a, const Params &p, int64_t group, const E *__restrict x, float *__restrict v, float *__restrict u, int64_t n) {
    const float decay = a.decay, fire = a.fire, theta = a.theta, scale = a.gain;
    for (int64_t i = 0; i < n; i += p.run) {
        const int64_t m = smaller(p.run, n - i);
        const float *__restrict mean = p.mean + group * p.run, *__restrict gain = p.gain + group * p.run;
        const float *__restrict bias = p.bias + group * p.run;
        for (int64_t j = 0; j < m; ++j) {
            float y = load(x[i + j]);
            if (NORM) y = (y - mean[j]) * gain[j] + bias[j];
            const float w = decay * v[i + j] + scale * y;
            u[i + j] = w;
            if (SOFT)
                v[i + j] = w - (w >= fire ? theta : 0.0f);
            else
                v[i + j] = w >= fire ? 0.0f : w;
        }
    }
}

static inline float one(float) { return 1.0f; }
static inline uint16_t one(uint16_t) { return 0x3f80; }

template <class E> static int64_t emit(const float *__restrict u, float fire, E *__restrict out, int64_t n) {
    int32_t fired = 0;
    const E yes = one(E{});
    for (int64_t i = 0; i < n; ++i) {
        const bool f = u[i] >= fire;
        out[i] = f ? yes : E{};
        fired += f;
    }
    return fired;
}

// 1 where the surrogate of a neuron is not zero, from its potential. `out` as the spikes.
static void emit_window(const NormLif &a, const float *__restrict u, uint8_t *__restrict out, int64_t n) {
    const float scale = a.soft ? 1.0f / a.theta : 1.0f, shift = a.soft ? 1.0f : a.theta, half = a.surrogate_a;
    for (int64_t i = 0; i < n; ++i) out[i] = fabsf(u[i] * scale - shift) < half;
}

static void emit_window_pooled(const NormLif &a, const float *u, uint8_t *out) {
    const float scale = a.soft ? 1.0f / a.theta : 1.0f, shift = a.soft ? 1.0f : a.theta, half = a.surrogate_a;
    const int64_t W = a.width, C = a.channels;
    for (int64_t w = 0; w + 1 < W; w += 2) {
        const float *__restrict p = u + w * C, *__restrict q = u + (W + w) * C;
        uint8_t *__restrict to = out + w / 2 * C;
        for (int64_t j = 0; j < C; ++j)
            to[j] = (fabsf(p[j] * scale - shift) < half) | (fabsf(p[C + j] * scale - shift) < half) |
                    (fabsf(q[j] * scale - shift) < half) | (fabsf(q[C + j] * scale - shift) < half);
    }
}

// Averages 2x2 windows of a pair of image rows; u is [2][W][C], out [W/2][C].
template <class E> static int64_t emit_pooled(const float *u, float fire, E *out, int64_t W, int64_t C) {
    int64_t some = 0;
    for (int64_t w = 0; w + 1 < W; w += 2) {
        const float *__restrict a = u + w * C, *__restrict b = a + C, *__restrict c = a + W * C, *__restrict d = c + C;
        E *__restrict to = out + w / 2 * C;
        int32_t fired = 0;
        for (int64_t j = 0; j < C; ++j) {
            const int32_t k = (a[j] >= fire) + (b[j] >= fire) + (c[j] >= fire) + (d[j] >= fire);
            store(to + j, 0.25f * static_cast<float>(k));
            fired += k > 0;
        }
        some += fired;
    }
    return some;
}

template <class E, bool NORM, bool SOFT> static void forward_tiles(const NormLif &a) {
    const Params p = make_params(a);
    const Tiling tiling = make_tiling(a, false);
    const int64_t C = a.channels, step = a.rows * C;
    const int64_t out_step = a.pool ? a.rows / (a.height * a.width) * (a.height / 2) * (a.width / 2) * C : step;
    const int64_t chunks = larger(1, smaller(kMaxChunks, tiling.count));
    int64_t *fired = scratch<int64_t>(chunks);
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        float *v = scratch<float>(2 * tiling.rows * C), *u = v + tiling.rows * C;
        for (int64_t k = begin; k < end; ++k)
            for (int64_t i = tiling.count * k / chunks; i < tiling.count * (k + 1) / chunks; ++i) {
                const Tile tile = tile_at(a, tiling, i);
                const int64_t n = tile.rows * C;
                memset(v, 0, sizeof(float) * static_cast<size_t>(n));
                for (int64_t t = 0; t < a.steps; ++t) {
                    const E *x = static_cast<const E *>(a.x) + (a.repeat ? 0 : t * step) + tile.row * C;
                    E *out = static_cast<E *>(a.out) + t * out_step + tile.out_row * C;
                    advance<E, NORM, SOFT>(a, p, a.norm == 2 ? t : 0, x, v, u, n);
                    if (a.window) {
                        uint8_t *window = a.window + t * out_step + tile.out_row * C;
                        a.pool ? emit_window_pooled(a, u, window) : emit_window(a, u, window, n);
                    }
                    fired[k] += a.pool ? emit_pooled(u, a.fire, out, a.width, C) : emit(u, a.fire, out, n);
                }
            }
        release(v);
    });
    *a.nonzero = 0;
    for (int64_t k = 0; k < chunks; ++k) *a.nonzero += fired[k];
    release(fired);
    release(p.mean);
}

// ---- backward -----------------------------------------------------------------------------------------------------------------

template <int SURROGATE> static inline float window(float x, float a, float b) {
    if (SURROGATE == 0) return fabsf(x) < a ? b : 0.0f;               // rectangle: half width, height
    if (SURROGATE == 1) {                                             // triangle: width, gamma
        const float y = 1.0f - fabsf(x) / a;
        return y > 0.0f ? b * y : 0.0f;
    }
    const float y = a * x; // arctan: pi/2 alpha, alpha/2
    return b / (1.0f + y * y);
}

// Upstream gradient of a pooled tile's neurons, as floats.
template <class E> static void spread(const NormLif &a, const Tile &tile, const E *go, float *__restrict g) {
    const int64_t C = a.channels, W = a.width;
    if (tile.out_row < 0 || W % 2) memset(g, 0, sizeof(float) * static_cast<size_t>(tile.rows * C));
    if (tile.out_row < 0) return;
    for (int64_t w = 0; w + 1 < W; w += 2) {
        const E *__restrict from = go + (tile.out_row + w / 2) * C;
        float *__restrict p = g + w * C, *__restrict q = g + (W + w) * C;
        for (int64_t j = 0; j < C; ++j) p[j] = p[C + j] = q[j] = q[C + j] = 0.25f * load(from[j]);
    }
}

// One step back in time over a tile. `go`: upstream gradient; `after`: dL/dv, carried; sums of dy and dy * xhat by channel go to s1,
// s2; dy * factor goes to dx, or is added to `total` when the current is repeated.
template <class E, class G, bool NORM, bool SOFT, int SURROGATE, bool REPEAT>
static void retreat(const NormLif &a, const Params &p, int64_t group, const float *factor, const float *__restrict u, const G *__restrict go,
                    const E *__restrict x, float *__restrict after, float *__restrict s1, float *__restrict s2, E *__restrict dx,
                    float *__restrict total, int64_t n) {
    const float decay = a.decay, fire = a.fire, theta = a.theta, scale = a.gain, sa = a.surrogate_a, sb = a.surrogate_b;
    const float inverse = 1.0f / theta, keep = a.detach_reset ? 0.0f : 1.0f;
    const float *__restrict mean = p.mean + group * p.run, *__restrict rstd = p.rstd + group * p.run;
    const float *__restrict f = factor;
    for (int64_t i = 0; i < n; i += p.run) {
        const int64_t m = smaller(p.run, n - i);
        for (int64_t j = 0; j < m; ++j) {
            const float w = u[i + j], later = after[i + j];
            const float h = SOFT ? window<SURROGATE>(w * inverse - 1.0f, sa, sb) * inverse : window<SURROGATE>(w - theta, sa, sb);
            const float through = SOFT ? later : (w >= fire ? 0.0f : later);
            const float d = h * (load(go[i + j]) - keep * later * (SOFT ? theta : w)) + through;
            after[i + j] = decay * d;
            float dy = scale * d;
            if (NORM) {
                s1[j] += dy;
                s2[j] += dy * ((load(x[i + j]) - mean[j]) * rstd[j]);
                dy *= f[j];
            }
            if (REPEAT)
                total[i + j] += dy;
            else
                store(dx + i + j, dy);
        }
    }
}

// Second pass for batch statistics: dx = gain * (dy - mean(dy) - xhat * mean(dy * xhat)), in place over dy.
template <class E> static void finish(const NormLif &a, const Params &p, const double *sums) {
    const int64_t C = a.channels, L = p.run, G = a.norm == 2 ? a.steps : 1, sets = a.repeat ? 1 : G;
    const double n = static_cast<double>(a.norm == 2 ? a.rows : a.steps * a.rows);
    // dx = A * dy + B * (x - mean) + D per element; with a repeated current A is 1 (gains are in already) and B, D sum over steps
    float *all = scratch<float>(3 * sets * L), *A = all, *B = all + sets * L, *D = all + 2 * sets * L;
    const double times = a.repeat && a.norm == 1 ? static_cast<double>(a.steps) : 1.0;
    for (int64_t g = 0; g < G; ++g)
        for (int64_t j = 0; j < L; ++j) {
            const int64_t c = j % C, s = a.repeat ? 0 : g;
            const double gain = p.gain[g * L + j];
            A[s * L + j] = a.repeat ? 1.0f : p.gain[g * L + j];
            B[s * L + j] -= static_cast<float>(times * gain * p.rstd[g * L + j] * sums[(2 * g + 1) * C + c] / n);
            D[s * L + j] -= static_cast<float>(times * gain * sums[2 * g * C + c] / n);
        }
    const int64_t rows = a.repeat || a.norm == 2 ? a.rows : a.steps * a.rows, span = larger(1, kTile / C);
    const int64_t spans = (rows + span - 1) / span;
    parallel(sets * spans, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t s = i / spans, from = i % spans * span, count = smaller(span, rows - from) * C;
            const E *x = static_cast<const E *>(a.x) + (s * rows + from) * C;
            E *dx = static_cast<E *>(a.grad_x) + (s * rows + from) * C;
            const float *__restrict fa = A + s * L, *__restrict fb = B + s * L, *__restrict fd = D + s * L;
            const float *__restrict mean = p.mean + s * L;
            for (int64_t q = 0; q < count; q += L) {
                const int64_t m = smaller(L, count - q);
                const E *__restrict xq = x + q;
                E *__restrict dq = dx + q;
                for (int64_t j = 0; j < m; ++j) store(dq + j, fa[j] * load(dq[j]) + fb[j] * (load(xq[j]) - mean[j]) + fd[j]);
            }
        }
    });
    release(all);
}

template <class E, bool NORM, bool SOFT, int SURROGATE, bool REPEAT> static void backward_tiles(const NormLif &a) {
    const Params p = make_params(a);
    const Tiling tiling = make_tiling(a, true);
    const int64_t C = a.channels, T = a.steps, step = a.rows * C, G = a.norm == 2 ? T : 1, tile_n = tiling.rows * C;
    const int64_t out_step = a.pool ? a.rows / (a.height * a.width) * (a.height / 2) * (a.width / 2) * C : step;
    const int64_t chunks = larger(1, smaller(kMaxChunks, smaller(tiling.count, T * a.rows / kChunkRows)));
    const int64_t sums = NORM ? 2 * G * C : 0;
    double *partial = scratch<double>(chunks * sums);
    float *ones = scratch<float>(NORM ? p.run : 1);
    for (int64_t j = 0; NORM && j < p.run; ++j) ones[j] = 1.0f;
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        float *v = scratch<float>((3 + T) * tile_n), *g = v + tile_n, *total = g + tile_n, *u = total + tile_n;
        float *acc = scratch<float>(NORM ? 2 * G * p.run : 1);
        for (int64_t k = begin; k < end; ++k) {
            const int64_t first = tiling.count * k / chunks, last = tiling.count * (k + 1) / chunks;
            for (int64_t i = first; i < last; ++i) {
                const Tile tile = tile_at(a, tiling, i);
                const int64_t n = tile.rows * C;
                const size_t bytes = sizeof(float) * static_cast<size_t>(n);
                memset(v, 0, bytes);
                for (int64_t t = 0; t < T; ++t) {
                    const E *x = static_cast<const E *>(a.x) + (a.repeat ? 0 : t * step) + tile.row * C;
                    advance<E, NORM, SOFT>(a, p, a.norm == 2 ? t : 0, x, v, u + t * tile_n, n);
                }
                memset(v, 0, bytes); // from here on dL/dv
                if (a.repeat) memset(total, 0, bytes);
                for (int64_t t = T - 1; t >= 0; --t) {
                    const int64_t group = a.norm == 2 ? t : 0, at = (a.repeat ? 0 : t * step) + tile.row * C;
                    // dx gets dy when batch statistics leave a second pass to do (factor 1), gain * dy otherwise. A repeated
                    // current sums its steps, so per-step gains must enter before that sum.
                    const E *x = static_cast<const E *>(a.x) + at, *go = static_cast<const E *>(a.grad_out) + t * out_step;
                    const float *factor = a.batch_statistics && !a.repeat ? ones : p.gain + group * p.run;
                    float *s1 = acc + 2 * group * p.run, *s2 = s1 + p.run, *ut = u + t * tile_n;
                    E *dx = static_cast<E *>(a.grad_x) + at;
                    if (a.pool) {
                        spread(a, tile, go, g);
                        retreat<E, float, NORM, SOFT, SURROGATE, REPEAT>(a, p, group, factor, ut, g, x, v, s1, s2, dx, total, n);
                    } else
                        retreat<E, E, NORM, SOFT, SURROGATE, REPEAT>(a, p, group, factor, ut, go + tile.row * C, x, v, s1, s2, dx, total, n);
                }
                if (a.repeat) {
                    E *dx = static_cast<E *>(a.grad_x) + tile.row * C;
                    for (int64_t j = 0; j < n; ++j) store(dx + j, total[j]);
                }
                if (NORM && ((i - first) % 4 == 3 || i + 1 == last)) {
                    for (int64_t s = 0; s < 2 * G; ++s) // s = 2 * group + (0: dy, 1: dy * xhat)
                        for (int64_t j = 0; j < p.run; j += C)
                            for (int64_t c = 0; c < C; ++c)
                                partial[k * sums + s * C + c] += static_cast<double>(acc[s * p.run + j + c]);
                    memset(acc, 0, sizeof(float) * static_cast<size_t>(2 * G * p.run));
                }
            }
        }
        release(acc);
        release(v);
    });
    if (NORM) {
        for (int64_t k = 1; k < chunks; ++k)
            for (int64_t s = 0; s < sums; ++s) partial[s] += partial[k * sums + s];
        for (int64_t g = 0; g < G; ++g)
            for (int64_t c = 0; c < C; ++c) {
                if (a.grad_bias) a.grad_bias[g * C + c] = static_cast<float>(partial[2 * g * C + c]);
                if (a.grad_weight) a.grad_weight[g * C + c] = static_cast<float>(a.scale * partial[(2 * g + 1) * C + c]);
            }
        if (a.batch_statistics) finish<E>(a, p, partial);
    }
    release(ones);
    release(partial);
    release(p.mean);
}

// ---- choice of the template ---------------------------------------------------------------------------------------------------

template <class E> static void forward_typed(const NormLif &a) {
    if (a.norm != 0) statistics<E>(a);
    if (a.norm != 0)
        a.soft ? forward_tiles<E, true, true>(a) : forward_tiles<E, true, false>(a);
    else
        a.soft ? forward_tiles<E, false, true>(a) : forward_tiles<E, false, false>(a);
}

template <class E, bool NORM, bool SOFT> static void backward_shaped(const NormLif &a) {
    if (a.surrogate == 0)
        a.repeat ? backward_tiles<E, NORM, SOFT, 0, true>(a) : backward_tiles<E, NORM, SOFT, 0, false>(a);
    else if (a.surrogate == 1)
        a.repeat ? backward_tiles<E, NORM, SOFT, 1, true>(a) : backward_tiles<E, NORM, SOFT, 1, false>(a);
    else
        a.repeat ? backward_tiles<E, NORM, SOFT, 2, true>(a) : backward_tiles<E, NORM, SOFT, 2, false>(a);
}

template <class E> static void backward_typed(const NormLif &a) {
    if (a.norm != 0)
        a.soft ? backward_shaped<E, true, true>(a) : backward_shaped<E, true, false>(a);
    else
        a.soft ? backward_shaped<E, false, true>(a) : backward_shaped<E, false, false>(a);
}

static void forward(const NormLif &a) { a.dtype == 0 ? forward_typed<F32>(a) : forward_typed<BF16>(a); }
static void backward(const NormLif &a) { a.dtype == 0 ? backward_typed<F32>(a) : backward_typed<BF16>(a); }
