// Mean and variance of each channel, and what the kernels need of them.
//
// Sums are taken over a fixed number of chunks that does not depend on the thread count, and added in chunk order: results repeat
// bit for bit, on any number of threads.

static constexpr int64_t kRun = 256;      // parameters are repeated over rows until a run has at least this many elements
static constexpr int64_t kRoom = 64;      // a multiple of the elements of any block
static constexpr int64_t kPlainRun = 8192; // the same without normalisation
static constexpr int64_t kChunkRows = 64; // least rows of a chunk
static constexpr int64_t kMaxChunks = 64;

// Per-channel numbers of every group, repeated over rows so that vectors run on from one row into the next: [G][stride].
struct Params {
    int64_t run;    // C * rows repeated
    int64_t stride; // run, up to whole blocks
    float *mean, *rstd, *gain, *bias;
};

SPIKEFED_APART static Params make_params(const NormLif &a) {
    if (a.norm == 0) return Params{kPlainRun, kPlainRun, nullptr, nullptr, nullptr, nullptr};
    const int64_t C = a.channels, G = a.norm == 2 ? a.steps : 1;
    int64_t rows = (kRun + C - 1) / C;
    while (C < kRun && rows * C % 16) ++rows; // whole vectors of every length
    const int64_t stride = (rows * C + kRoom - 1) / kRoom * kRoom;
    float *all = scratch<float>(4 * G * stride);
    const Params p{rows * C, stride, all, all + G * stride, all + 2 * G * stride, all + 3 * G * stride};
    for (int64_t g = 0; g < G; ++g)
        for (int64_t i = 0; i < p.run; ++i) {
            const int64_t to = g * stride + i, from = g * C + i % C;
            p.mean[to] = a.mean[from];
            p.rstd[to] = a.rstd[from];
            p.gain[to] = a.scale * a.rstd[from] * (a.weight ? a.weight[from] : 1.0f);
            p.bias[to] = a.bias ? a.bias[from] : 0.0f;
        }
    return p;
}

static constexpr int64_t kSumRows = 64, kFewRows = 16, kSumChannels = 512; // rows and channels whose sums are taken as floats; rows at a time

// Adds sum and sum of squares of (x - shift) over `rows` rows to the doubles `total` [2][C]. Few rows at a time over all channels, as they lie in memory.
template <class E> static void sum_rows(const E *x, const float *shift, int64_t rows, int64_t C, double *total) {
    constexpr int K = 4; // vectors at a time
    float sums[2][kSumChannels];
    for (int64_t c0 = 0; c0 < C; c0 += kSumChannels)
        for (int64_t r = 0; r < rows; r += kSumRows) {
            const int64_t last = smaller(r + kSumRows, rows), n = smaller(kSumChannels, C - c0);
            for (int64_t few = r; few < last; few += kFewRows)
                for (int64_t c = 0; c < n; c += K * kVec) {
                    Vec s1[K], s2[K], off[K];
                    int64_t lanes[K];
                    SPIKEFED_UNROLL
                    for (int k = 0; k < K; ++k) {
                        lanes[k] = larger(0, smaller(kVec, n - c - k * kVec));
                        s1[k] = few == r ? broadcast(0.0f) : load_vec(sums[0] + c + k * kVec);
                        s2[k] = few == r ? broadcast(0.0f) : load_vec(sums[1] + c + k * kVec);
                        off[k] = load_some(shift + c0 + c + k * kVec, lanes[k]);
                    }
                    for (int64_t i = few; i < smaller(few + kFewRows, last); ++i) {
                        SPIKEFED_UNROLL
                        for (int k = 0; k < K; ++k) {
                            const E *at = x + i * C + c0 + c + k * kVec;
                            if (k % 2 == 0) SPIKEFED_PREFETCH(at + 1024, 0);
                            const Vec d = load_few(at, lanes[k]) - off[k];
                            s1[k] = s1[k] + d;
                            s2[k] = s2[k] + d * d;
                        }
                    }
                    SPIKEFED_UNROLL
                    for (int k = 0; k < K; ++k) {
                        store_vec(sums[0] + c + k * kVec, s1[k]);
                        store_vec(sums[1] + c + k * kVec, s2[k]);
                    }
                }
            for (int64_t c = 0; c < n; ++c) {
                total[c0 + c] += static_cast<double>(sums[0][c]);
                total[C + c0 + c] += static_cast<double>(sums[1][c]);
            }
        }
}

template <class E> SPIKEFED_APART static void statistics(const NormLif &a) {
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
        for (int64_t i = begin; i < end; ++i) {
            const int64_t g = i / chunks, k = i % chunks, from = rows * k / chunks, to = rows * (k + 1) / chunks;
            sum_rows(x + (g * rows + from) * C, shift + g * C, to - from, C, partial + i * 2 * C);
        }
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
