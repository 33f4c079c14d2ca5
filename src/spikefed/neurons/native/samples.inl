// Weight gradients of single samples of a 3x3 convolution, each formed in the cache and only measured (see samples.h). Included once per
// instruction set. Images of many channels go by Winograd's minimal filtering, which winograd.inl explains, of few tap by tap.
//
//   W = G' [ sum over steps and tiles of (B' d B) (A g A')' ] G       d: (M + 2)^2 inputs, g: M^2 gradients, W: 3x3 weights
//
// Tiles are of 4x4 or 5x5, whichever take fewer points to cover a map: 14 a side are 3 x 7 points in tiles of 5, 4 x 6 in tiles of 4.
// The points are 0, pairs +-p, and infinity where their number is even. Error of a gradient in the 2-norm, over 128 tiles of spikes:
// 8e-7 in tiles of 4, 2e-6 in tiles of 5; of the sum of its squares 6e-8 and 1.3e-7, as errors of its numbers cancel.

template <int M> struct SamplePairs;
template <> struct SamplePairs<4> {
    static constexpr double at[2] = {0.75, 1.5};
};
template <> struct SamplePairs<5> { // of those tried the ones with the least error
    static constexpr double at[3] = {0.5, 1.125, 2.25};
};

// What a side of M gradients multiplies with.
template <int M> struct SampleSide {
    static constexpr int kPairs = (M + 1) / 2;
    static constexpr bool kInfinity = M % 2 == 0;
    float all[kPairs], but[kPairs][kPairs], powers[kPairs][M], even[kPairs][2], odd[kPairs], zero;
    constexpr SampleSide() : all(), but(), powers(), even(), odd(), zero() {
        double product[kPairs + 1] = {};
        multiplied(-1, product);
        for (int m = 0; m < kPairs; ++m) all[m] = static_cast<float>(product[m]);
        zero = static_cast<float>(1.0 / product[0]);
        for (int i = 0; i < kPairs; ++i) {
            const double p = SamplePairs<M>::at[i];
            multiplied(i, product);
            double value = 0, power = 1;
            for (int m = 0; m < kPairs; ++m, power *= p * p) {
                but[i][m] = static_cast<float>(product[m]);
                value += product[m] * power;
            }
            const double scale = 1.0 / (2 * p * p * value);
            even[i][0] = static_cast<float>(scale);
            even[i][1] = static_cast<float>(scale * p * p);
            odd[i] = static_cast<float>(scale * p);
            power = 1;
            for (int r = 0; r < M; ++r, power *= p) powers[i][r] = static_cast<float>(power);
        }
    }
    // Coefficients of the product of (y - p^2) over all pairs but one.
    static constexpr void multiplied(int without, double *c) {
        for (int m = 0; m <= kPairs; ++m) c[m] = m == 0;
        int degree = 0;
        for (int i = 0; i < kPairs; ++i) {
            if (i == without) continue;
            ++degree;
            const double square = SamplePairs<M>::at[i] * SamplePairs<M>::at[i];
            for (int m = degree; m >= 0; --m) c[m] = (m > 0 ? c[m - 1] : 0.0) - square * (m < degree ? c[m] : 0.0);
        }
    }
};
template <int M> static constexpr SampleSide<M> kSampleSide{};

// One dimension of B' d: M + 2 inputs to as many points. Even and odd powers apart, as +p and -p share them.
template <int M> static SPIKEFED_INLINE void inputs_at_points(const Vec *d, int64_t step, Vec *out) {
    constexpr int pairs = SampleSide<M>::kPairs;
    Vec first = d[2 * pairs * step];
    SPIKEFED_UNROLL_ALL
    for (int m = pairs - 1; m >= 0; --m) first = SPIKEFED_FMA(broadcast(kSampleSide<M>.all[m]), d[2 * m * step], first);
    out[0] = first;
    if (SampleSide<M>::kInfinity) {
        Vec last = d[(M + 1) * step];
        SPIKEFED_UNROLL_ALL
        for (int m = pairs - 1; m >= 0; --m) last = SPIKEFED_FMA(broadcast(kSampleSide<M>.all[m]), d[(2 * m + 1) * step], last);
        out[M + 1] = last;
    }
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < pairs; ++i) {
        Vec even = d[2 * pairs * step], odd = d[(2 * pairs - 1) * step];
        SPIKEFED_UNROLL_ALL
        for (int m = pairs - 2; m >= 0; --m) {
            const Vec c = broadcast(kSampleSide<M>.but[i][m]);
            even = SPIKEFED_FMA(c, d[(2 * m + 2) * step], even);
            odd = SPIKEFED_FMA(c, d[(2 * m + 1) * step], odd);
        }
        odd = broadcast(kSampleSide<M>.powers[i][1]) * odd;
        out[1 + 2 * i] = even + odd;
        out[2 + 2 * i] = even - odd;
    }
}

// One dimension of A g: M gradients to M + 2 points.
template <int M> static SPIKEFED_INLINE void gradients_at_points(const Vec *g, int64_t step, Vec *out) {
    out[0] = g[0];
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < SampleSide<M>::kPairs; ++i) {
        Vec even = g[0], odd = broadcast(kSampleSide<M>.powers[i][1]) * g[step];
        SPIKEFED_UNROLL_ALL
        for (int r = 2; r < M; ++r) {
            const Vec c = broadcast(kSampleSide<M>.powers[i][r]);
            if (r % 2)
                odd = SPIKEFED_FMA(c, g[r * step], odd);
            else
                even = SPIKEFED_FMA(c, g[r * step], even);
        }
        out[1 + 2 * i] = even + odd;
        out[2 + 2 * i] = even - odd;
    }
    if (SampleSide<M>::kInfinity) out[M + 1] = g[(M - 1) * step];
}

// One dimension of G' m: M + 2 points to three weights.
template <int M> static SPIKEFED_INLINE void weights_of_points(const Vec *m, int64_t step, Vec *out) {
    constexpr const SampleSide<M> &side = kSampleSide<M>;
    out[0] = broadcast(side.zero) * m[0];
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < SampleSide<M>::kPairs; ++i) {
        const Vec sum = m[(1 + 2 * i) * step] + m[(2 + 2 * i) * step], difference = m[(1 + 2 * i) * step] - m[(2 + 2 * i) * step];
        out[0] = SPIKEFED_FMA(broadcast(side.even[i][0]), sum, out[0]);
        out[1] = i == 0 ? broadcast(side.odd[i]) * difference : SPIKEFED_FMA(broadcast(side.odd[i]), difference, out[1]);
        out[2] = i == 0 ? broadcast(side.even[i][1]) * sum : SPIKEFED_FMA(broadcast(side.even[i][1]), sum, out[2]);
    }
    if (SampleSide<M>::kInfinity) out[2] = out[2] + m[(M + 1) * step];
}

// ---- sums of one sample ---------------------------------------------------------------------------------------------------------

static SPIKEFED_INLINE int64_t whole_vectors(int64_t n) { return (n + kVec - 1) / kVec * kVec; }

// to[i] += v[i], in double.
static SPIKEFED_INLINE void add_doubles(double *to, const Vec &v) {
    float lanes[kVec];
    store_vec(lanes, v);
    for (int i = 0; i < kVec; ++i) to[i] += lanes[i];
}

// What becomes of a sample's W, in double; `weight` [Ci][9][whole vectors of Co].
struct Measured {
    double squares[kVec];
    double *met, *come;

    // The nine weights of one input channel and a vector of output channels from c on.
    SPIKEFED_INLINE void take(const Vec *w, const float *weight, int64_t pitch, int64_t c) {
        Vec square = w[0] * w[0], product = w[0] * load_vec(weight + c);
        SPIKEFED_UNROLL_ALL
        for (int tap = 1; tap < 9; ++tap) {
            square = SPIKEFED_FMA(w[tap], w[tap], square);
            product = SPIKEFED_FMA(w[tap], load_vec(weight + tap * pitch + c), product);
        }
        add_doubles(squares, square);
        add_doubles(met + c, product);
    }
};

// One step of one sample as floats with a border of zeros: `to` [rows][columns][room of a pixel], `by_plane`: [Ci][rows][columns]. All
// that is not under the image stays as it is.
static void fill_bordered(const Samples &a, const float *x, int64_t columns, int64_t pixel, int64_t plane, float *to) {
    for (int64_t h = 0; h < a.height; ++h)
        for (int64_t w = 0; w < a.width; ++w) {
            const float *from = x + (h * a.width + w) * a.in_channels;
            float *at = to + (h + 1) * columns + w + 1;
            if (plane)
                for (int64_t c = 0; c < a.in_channels; ++c) at[c * plane] = from[c];
            else
                for (int64_t c = 0; c < a.in_channels; c += kVec)
                    store_vec(to + ((h + 1) * columns + w + 1) * pixel + c, load_some(from + c, smaller(kVec, a.in_channels - c)));
        }
}

// ---- by filtering ---------------------------------------------------------------------------------------------------------------

// Rows of a product whose sums stay in registers, two vectors wide.
static constexpr int kTall = kVec == 16 ? 8 : 4;

// c [kTall][WIDE vectors] = sum over k of a[k][kTall] b[k][WIDE vectors], or += (ADD); rows of a and b are `a_row` and `b_row` apart.
template <bool ADD, int WIDE>
static SPIKEFED_INLINE void outer_products(const float *__restrict a, int64_t a_row, const float *__restrict b, int64_t b_row, int64_t count,
                                           float *__restrict c, int64_t c_row) {
    Vec sums[kTall][WIDE];
    SPIKEFED_UNROLL_ALL
    for (int r = 0; r < kTall; ++r) {
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < WIDE; ++v) sums[r][v] = ADD ? load_vec(c + r * c_row + v * kVec) : broadcast(0.0f);
    }
    for (int64_t k = 0; k < count; ++k) {
        Vec g[WIDE];
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < WIDE; ++v) g[v] = load_vec(b + k * b_row + v * kVec);
        SPIKEFED_UNROLL_ALL
        for (int r = 0; r < kTall; ++r) {
            const Vec x = broadcast(a[k * a_row + r]);
            SPIKEFED_UNROLL_ALL
            for (int v = 0; v < WIDE; ++v) sums[r][v] = SPIKEFED_FMA(x, g[v], sums[r][v]);
        }
    }
    SPIKEFED_UNROLL_ALL
    for (int r = 0; r < kTall; ++r) {
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < WIDE; ++v) store_vec(c + r * c_row + v * kVec, sums[r][v]);
    }
}

static SPIKEFED_INLINE int64_t odd_lines(int64_t floats) { return ((floats + 15) / 16 | 1) * 16; }

// How the maps of a sample are cut into tiles of M x M and the tiles into blocks whose points stay in the second-level cache.
template <int M> struct SampleCut {
    static constexpr int kPoints = (M + 2) * (M + 2);
    int64_t down, across, in_row, out_row, block, columns;
    int64_t in_size, out_size, sum_size; // floats of a point: an odd number of cache lines, or the points would push each other out
    explicit SampleCut(const Samples &a)
        : down((a.height + M - 1) / M), across((a.width + M - 1) / M), in_row(whole_vectors(a.in_channels)), out_row(whole_vectors(a.out_channels)),
          block(smaller(a.steps * down * across, larger(24, (640 << 10) / (4 * kPoints * (in_row + out_row))))), columns(across * M + 2),
          in_size(odd_lines(block * in_row)), out_size(odd_lines(block * out_row)), sum_size(odd_lines(in_row * out_row)) {}
};

template <int M> static void input_points(const SampleCut<M> &cut, const float *from, float *to) {
    for (int64_t c = 0; c < cut.in_row; c += kVec) {
        Vec half[(M + 2) * (M + 2)], d[M + 2], v[M + 2];
        for (int column = 0; column < M + 2; ++column) {
            SPIKEFED_UNROLL_ALL
            for (int row = 0; row < M + 2; ++row) d[row] = load_vec(from + (row * cut.columns + column) * cut.in_row + c);
            inputs_at_points<M>(d, 1, v);
            SPIKEFED_UNROLL_ALL
            for (int row = 0; row < M + 2; ++row) half[row * (M + 2) + column] = v[row];
        }
        for (int row = 0; row < M + 2; ++row) {
            inputs_at_points<M>(half + row * (M + 2), 1, v);
            SPIKEFED_UNROLL_ALL
            for (int column = 0; column < M + 2; ++column) {
                store_vec(to + (row * (M + 2) + column) * cut.in_size + c, v[column]);
            }
        }
    }
}

// A vector of output channels of a tile, of which `rows` x `columns` are under the map (WHOLE: all); gives the sums of the gradients.
template <int M, bool WHOLE>
static SPIKEFED_INLINE Vec gradient_lanes(const float *from, int64_t next_row, int64_t next_column, int64_t rows, int64_t columns, int64_t lanes,
                                          const SampleCut<M> &cut, float *to) {
    Vec half[(M + 2) * M], g[M], v[M + 2], sum = broadcast(0.0f);
    SPIKEFED_UNROLL_ALL
    for (int column = 0; column < M; ++column) {
        SPIKEFED_UNROLL_ALL
        for (int row = 0; row < M; ++row) {
            const float *at = from + row * next_row + column * next_column;
            if (WHOLE)
                g[row] = load_vec(at);
            else
                g[row] = row < rows && column < columns ? load_some(at, lanes) : broadcast(0.0f);
            sum = sum + g[row];
        }
        gradients_at_points<M>(g, 1, v);
        SPIKEFED_UNROLL_ALL
        for (int row = 0; row < M + 2; ++row) half[row * M + column] = v[row];
    }
    for (int row = 0; row < M + 2; ++row) {
        gradients_at_points<M>(half + row * M, 1, v);
        SPIKEFED_UNROLL_ALL
        for (int column = 0; column < M + 2; ++column) {
            store_vec(to + (row * (M + 2) + column) * cut.out_size, v[column]);
        }
    }
    return sum;
}

// `sums` [out_row] gets the sums of the gradients.
template <int M>
static void gradient_points(const Samples &a, const SampleCut<M> &cut, const float *from, int64_t rows, int64_t columns, float *to, float *sums) {
    const int64_t Co = a.out_channels, next = a.width * Co;
    for (int64_t c = 0; c < Co; c += kVec) {
        const int64_t lanes = smaller(kVec, Co - c);
        const Vec sum = rows >= M && columns >= M && lanes == kVec ? gradient_lanes<M, true>(from + c, next, Co, rows, columns, lanes, cut, to + c)
                                                                   : gradient_lanes<M, false>(from + c, next, Co, rows, columns, lanes, cut, to + c);
        store_vec(sums + c, load_vec(sums + c) + sum);
    }
}

// Asks for a part of the next step's numbers, which lie far behind.
static SPIKEFED_INLINE void ask_ahead(const float *from, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += 16) SPIKEFED_PREFETCH_FAR(from + i);
}

template <int M, bool ADD> static void multiply_points(const SampleCut<M> &cut, int64_t tiles, const float *in, const float *out, float *sums) {
    for (int64_t point = 0; point < SampleCut<M>::kPoints; ++point)
        for (int64_t c = 0; c < cut.out_row; c += 2 * kVec) {
            const float *b = out + point * cut.out_size + c;
            for (int64_t r = 0; r < cut.in_row; r += kTall) {
                const float *from = in + point * cut.in_size + r;
                float *to = sums + point * cut.sum_size + r * cut.out_row + c;
                if (c + kVec < cut.out_row)
                    outer_products<ADD, 2>(from, cut.in_row, b, cut.out_row, tiles, to, cut.out_row);
                else
                    outer_products<ADD, 1>(from, cut.in_row, b, cut.out_row, tiles, to, cut.out_row);
            }
        }
}

// `sums`: points of W, [kPoints][sum_size].
template <int M> static void measure_points(const Samples &a, const SampleCut<M> &cut, const float *sums, const float *weight, Measured &found) {
    for (int64_t i = 0; i < a.in_channels; ++i)
        for (int64_t c = 0; c < cut.out_row; c += kVec) {
            Vec half[3 * (M + 2)], m[M + 2], w[9];
            SPIKEFED_UNROLL_ALL
            for (int column = 0; column < M + 2; ++column) {
                Vec three[3];
                SPIKEFED_UNROLL_ALL
                for (int row = 0; row < M + 2; ++row) m[row] = load_vec(sums + (row * (M + 2) + column) * cut.sum_size + i * cut.out_row + c);
                weights_of_points<M>(m, 1, three);
                SPIKEFED_UNROLL_ALL
                for (int row = 0; row < 3; ++row) half[row * (M + 2) + column] = three[row];
            }
            SPIKEFED_UNROLL_ALL
            for (int row = 0; row < 3; ++row) weights_of_points<M>(half + row * (M + 2), 1, w + 3 * row);
            found.take(w, weight + i * 9 * cut.out_row, cut.out_row, c);
        }
}

// ---- all samples ----------------------------------------------------------------------------------------------------------------

// Calls each(sample, found) with room for its sums and writes them down.
template <class F> static void for_samples(const Samples &a, const F &each) {
    const int64_t pitch = whole_vectors(a.out_channels);
    parallel(a.samples, a.threads, [&](int64_t begin, int64_t end) {
        double *sums = scratch<double>(2 * pitch);
        for (int64_t b = begin; b < end; ++b) {
            Measured found{{}, sums, sums + pitch};
            memset(sums, 0, sizeof(double) * static_cast<size_t>(2 * pitch));
            each(b, found);
            double all = 0;
            for (int i = 0; i < kVec; ++i) all += found.squares[i];
            a.squares[b] = all;
            memcpy(a.met + b * a.out_channels, found.met, sizeof(double) * static_cast<size_t>(a.out_channels));
            memcpy(a.come + b * a.out_channels, found.come, sizeof(double) * static_cast<size_t>(a.out_channels));
        }
        release(sums);
    });
}

// The weights as [Ci][9][whole vectors of Co], zeros behind the last channel.
static float *weights_by_tap(const Samples &a) {
    const int64_t pitch = whole_vectors(a.out_channels), taps = a.in_channels * 9;
    float *to = scratch<float>(taps * pitch);
    for (int64_t o = 0; o < a.out_channels; ++o)
        for (int64_t k = 0; k < taps; ++k) to[k * pitch + o] = a.weight[o * taps + k];
    return to;
}

template <int M> static void filtered_samples(const Samples &a, const float *weight) {
    using Cut = SampleCut<M>;
    const Cut cut(a);
    const int64_t image = a.height * a.width, bordered = (cut.down * M + 2) * cut.columns * cut.in_row;
    // Room is taken once for all samples of a thread; `border` keeps its zeros.
    struct Room {
        float *in, *out, *sums, *border, *steps;
    };
    const int64_t pieces = larger(1, smaller(a.threads, a.samples));
    parallel(pieces, a.threads, [&](int64_t first, int64_t last) {
        Samples part = a;
        part.threads = 1;
        for (int64_t piece = first; piece < last; ++piece) {
            const int64_t from = a.samples * piece / pieces, until = a.samples * (piece + 1) / pieces;
            const Room room{unset<float>(Cut::kPoints * cut.in_size + 16), scratch<float>(Cut::kPoints * cut.out_size + 16),
                            unset<float>(Cut::kPoints * cut.sum_size), scratch<float>(bordered), unset<float>(cut.out_row)};
            part.samples = until - from;
            part.squares = a.squares + from, part.met = a.met + from * a.out_channels, part.come = a.come + from * a.out_channels;
            for_samples(part, [&](int64_t b, Measured &found) {
                int64_t tiles = 0;
                bool begun = false;
                const auto flush = [&] {
                    begun ? multiply_points<M, true>(cut, tiles, room.in, room.out, room.sums)
                          : multiply_points<M, false>(cut, tiles, room.in, room.out, room.sums);
                    begun = true;
                    tiles = 0;
                };
                const auto of_step = [&](int64_t step, const float *x, int64_t channels) {
                    return x + (step * a.samples + from + b) * image * channels;
                };
                for (int64_t step = 0; step < a.steps; ++step) {
                    const float *go = of_step(step, a.go, a.out_channels);
                    // What comes next: the sample's next step, or the next sample's first.
                    const int64_t later = step + 1 < a.steps ? a.samples : b + 1 < part.samples ? 1 - step * a.samples : 0;
                    const float *next_go = go + later * image * a.out_channels;
                    const float *next_x = of_step(step, a.x, a.in_channels) + later * image * a.in_channels;
                    const int64_t places = cut.down * cut.across;
                    fill_bordered(a, of_step(step, a.x, a.in_channels), cut.columns, cut.in_row, 0, room.border);
                    memset(room.steps, 0, sizeof(float) * static_cast<size_t>(cut.out_row));
                    for (int64_t place = 0; place < places; ++place) {
                        const int64_t top = place / cut.across * M, left = place % cut.across * M;
                        ask_ahead(next_go, image * a.out_channels * place / places, image * a.out_channels * (place + 1) / places);
                        ask_ahead(next_x, image * a.in_channels * place / places, image * a.in_channels * (place + 1) / places);
                        input_points<M>(cut, room.border + (top * cut.columns + left) * cut.in_row, room.in + tiles * cut.in_row);
                        gradient_points<M>(a, cut, go + (top * a.width + left) * a.out_channels, a.height - top, a.width - left,
                                           room.out + tiles * cut.out_row, room.steps);
                        if (++tiles == cut.block) flush();
                    }
                    for (int64_t c = 0; c < cut.out_row; c += kVec) add_doubles(found.come + c, load_vec(room.steps + c));
                }
                if (tiles) flush();
                measure_points<M>(a, cut, room.sums, weight, found);
            });
            release(room.in), release(room.out), release(room.sums), release(room.border), release(room.steps);
        }
    });
}

// Images with few channels: taps of one input channel and a vector of output channels stay in registers while a row of pixels goes by.
static void direct_samples(const Samples &a, const float *weight) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, Co = a.out_channels, plane = (H + 2) * (W + 2), pitch = whole_vectors(Co);
    for_samples(a, [&](int64_t b, Measured &found) {
        float *planes = scratch<float>(Ci * plane), *sums = scratch<float>(Ci * 9 * pitch);
        for (int64_t step = 0; step < a.steps; ++step) {
            const int64_t at = (step * a.samples + b) * H * W;
            fill_bordered(a, a.x + at * Ci, W + 2, 1, plane, planes);
            for (int64_t h = 0; h < H; ++h)
                for (int64_t v = 0; v < Co; v += kVec)
                    for (int64_t c = 0; c < Ci; ++c) {
                        const float *go = a.go + (at + h * W) * Co + v, *from = planes + c * plane + h * (W + 2);
                        const int64_t lanes = smaller(kVec, Co - v);
                        float *to = sums + c * 9 * pitch + v;
                        Vec s[9], sum = broadcast(0.0f);
                        SPIKEFED_UNROLL_ALL
                        for (int tap = 0; tap < 9; ++tap) s[tap] = load_vec(to + tap * pitch);
                        for (int64_t w = 0; w < W; ++w) {
                            SPIKEFED_PREFETCH(go + (w + 16) * Co, 0);
                            const Vec g = load_some(go + w * Co, lanes);
                            sum = sum + g;
                            SPIKEFED_UNROLL_ALL
                            for (int tap = 0; tap < 9; ++tap) s[tap] = SPIKEFED_FMA(broadcast(from[tap / 3 * (W + 2) + w + tap % 3]), g, s[tap]);
                        }
                        SPIKEFED_UNROLL_ALL
                        for (int tap = 0; tap < 9; ++tap) store_vec(to + tap * pitch, s[tap]);
                        if (c == 0) add_doubles(found.come + v, sum);
                    }
        }
        for (int64_t c = 0; c < Ci; ++c)
            for (int64_t v = 0; v < Co; v += kVec) {
                Vec w[9];
                for (int tap = 0; tap < 9; ++tap) w[tap] = load_vec(sums + (c * 9 + tap) * pitch + v);
                found.take(w, weight + c * 9 * pitch, pitch, v);
            }
        release(sums);
        release(planes);
    });
}

// Channels up to which the transforms cost more than they save.
static constexpr int64_t kFewChannels = 4;

template <int M> static int64_t points_of(const Samples &a) { return (a.height + M - 1) / M * ((a.width + M - 1) / M) * (M + 2) * (M + 2); }

static void samples(const Samples &a) {
    float *weight = weights_by_tap(a);
    if (a.in_channels <= kFewChannels)
        direct_samples(a, weight);
    else if (points_of<5>(a) < points_of<4>(a))
        filtered_samples<5>(a, weight);
    else
        filtered_samples<4>(a, weight);
    release(weight);
}
