// Dense 3x3 convolution, stride 1, padding 1, by Winograd's minimal filtering (Lavin and Gray 2016): a tile of D x A outputs needs
// (D + 2)(A + 2) products of channel vectors instead of 9 D A. Included once per instruction set (see norm_lif.inl for the rules).
//
//   Y = A' [ sum over channels of (G g G') * (B' d B) ] A      d: inputs, g: 3x3 weights, Y: outputs; for each side its own A, B and G
//
// The interpolation points are 0, infinity and pairs +-p, whose powers are of like size. Tiles of 4x4 (3/4, 3/2): the error is 1.7
// times that of the direct sum (measured in float32 over 256 channels), where the usual 0, +-1, +-2 give 4 times. Longer sides need
// fewer products and cost accuracy: maps of 14 outputs a side begin with a side of 6 up to 64 channels (4 to 5 times the error over the whole map), and in
// bfloat16, whose results keep 8 bits, tiles are 4x8 where they fit (5e-6 relative before the result is rounded).
//
// Tiles go through in blocks: transform a block's inputs, multiply at each point [tiles x in] * [in x out], transform back.
// A block's numbers stay in the second-level cache. No sum depends on how tiles are cut into blocks or threads.

static constexpr int64_t kPoints = 36; // of tiles of 4x4, which alone the weight gradient takes

// The pairs of points of a side of M outputs, +-at[i]: of those tried the ones with the least error.
template <int M> struct Pairs;
template <> struct Pairs<4> {
    static constexpr double at[2] = {0.75, 1.5};
};
template <> struct Pairs<6> {
    static constexpr double at[3] = {0.5, 1.0, 2.125};
};
template <> struct Pairs<8> {
    static constexpr double at[4] = {0.5, 0.8125, 1.25, 2.5};
};

// Coefficient of y^power in the product of (y - p^2) over all pairs but that of `without` (-1: over all).
template <int M> static constexpr double coefficient(int without, int power) {
    double c[M / 2 + 1] = {1.0};
    int degree = 0;
    for (int i = 0; i < M / 2; ++i) {
        if (i == without) continue;
        ++degree;
        for (int m = degree; m >= 0; --m) c[m] = (m > 0 ? c[m - 1] : 0.0) - Pairs<M>::at[i] * Pairs<M>::at[i] * (m < degree ? c[m] : 0.0);
    }
    return c[power];
}
static constexpr double power_of(double x, int n) { return n == 0 ? 1.0 : x * power_of(x, n - 1); }

// What a side of M outputs multiplies with, as floats.
template <int M> struct Side {
    static constexpr int kPairs = M / 2;
    float all[kPairs], but[kPairs][kPairs], point[kPairs], powers[kPairs][M], scale[kPairs], zero;
    constexpr Side() : all(), but(), point(), powers(), scale(), zero() {
        for (int m = 0; m < kPairs; ++m) all[m] = static_cast<float>(coefficient<M>(-1, m));
        for (int i = 0; i < kPairs; ++i) {
            const double p = Pairs<M>::at[i];
            double value = 0;
            for (int m = 0; m < kPairs; ++m) {
                but[i][m] = static_cast<float>(coefficient<M>(i, m));
                value += coefficient<M>(i, m) * power_of(p * p, m);
            }
            point[i] = static_cast<float>(p);
            scale[i] = static_cast<float>(1.0 / (2 * p * p * value));
            for (int r = 0; r < M; ++r) powers[i][r] = static_cast<float>(power_of(p, r));
        }
        zero = static_cast<float>(1.0 / coefficient<M>(-1, 0));
    }
};
template <int M> static constexpr Side<M> kSide{};

// One dimension of B' d: M + 2 inputs to as many points. Even and odd powers apart, as +p and -p share them.
template <int M> static SPIKEFED_INLINE void to_points(const Vec *d, int64_t step, Vec *out) {
    constexpr int pairs = M / 2;
    Vec first = d[M * step], last = d[(M + 1) * step];
    SPIKEFED_UNROLL_ALL
    for (int m = pairs - 1; m >= 0; --m) {
        const Vec c = broadcast(kSide<M>.all[m]);
        first = SPIKEFED_FMA(c, d[2 * m * step], first);
        last = SPIKEFED_FMA(c, d[(2 * m + 1) * step], last);
    }
    out[0] = first;
    out[M + 1] = last;
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < pairs; ++i) {
        Vec even = d[M * step], odd = d[(M - 1) * step];
        SPIKEFED_UNROLL_ALL
        for (int m = pairs - 2; m >= 0; --m) {
            const Vec c = broadcast(kSide<M>.but[i][m]);
            even = SPIKEFED_FMA(c, d[(2 * m + 2) * step], even);
            odd = SPIKEFED_FMA(c, d[(2 * m + 1) * step], odd);
        }
        odd = broadcast(kSide<M>.point[i]) * odd;
        out[1 + 2 * i] = even + odd;
        out[2 + 2 * i] = even - odd;
    }
}

// One dimension of G g: three weights to M + 2 points.
template <int M> static SPIKEFED_INLINE void weights_to_points(const Vec *g, int64_t step, Vec *out) {
    out[0] = broadcast(kSide<M>.zero) * g[0];
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < M / 2; ++i) {
        const Vec scale = broadcast(kSide<M>.scale[i]), odd = broadcast(kSide<M>.point[i]) * g[step];
        const Vec even = SPIKEFED_FMA(broadcast(kSide<M>.powers[i][2]), g[2 * step], g[0]);
        out[1 + 2 * i] = scale * (even + odd);
        out[2 + 2 * i] = scale * (even - odd);
    }
    out[M + 1] = g[2 * step];
}

// One dimension of A' m: M + 2 points to M outputs.
template <int M> static SPIKEFED_INLINE void from_points(const Vec *m, int64_t step, Vec *out) {
    constexpr int pairs = M / 2;
    Vec plus[pairs], minus[pairs];
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < pairs; ++i) {
        plus[i] = m[(1 + 2 * i) * step] + m[(2 + 2 * i) * step];
        minus[i] = m[(1 + 2 * i) * step] - m[(2 + 2 * i) * step];
    }
    Vec sum = plus[0];
    SPIKEFED_UNROLL_ALL
    for (int i = 1; i < pairs; ++i) sum = sum + plus[i];
    out[0] = m[0] + sum;
    SPIKEFED_UNROLL_ALL
    for (int r = 1; r < M; ++r) {
        const Vec *v = r % 2 ? minus : plus;
        const Vec one = broadcast(kSide<M>.powers[0][r]);
        Vec part = r == M - 1 ? SPIKEFED_FMA(one, v[0], m[(M + 1) * step]) : one * v[0];
        SPIKEFED_UNROLL_ALL
        for (int i = 1; i < pairs; ++i) part = SPIKEFED_FMA(broadcast(kSide<M>.powers[i][r]), v[i], part);
        out[r] = part;
    }
}

static constexpr float kA = 0.75f, kB = 1.5f, kAA = kA * kA, kBB = kB * kB; // of tiles of 4x4

// One dimension of G' m: six points to three gradients of weights (the transpose of weights_to_points).
static SPIKEFED_INLINE void points_to_weights(const Vec *m, int64_t step, Vec *out) {
    const Vec at_a = broadcast(1.0f / (2 * kAA * (kAA - kBB))), at_b = broadcast(1.0f / (2 * kBB * (kBB - kAA)));
    const Vec even_a = at_a * (m[step] + m[2 * step]), odd_a = at_a * (m[step] - m[2 * step]);
    const Vec even_b = at_b * (m[3 * step] + m[4 * step]), odd_b = at_b * (m[3 * step] - m[4 * step]);
    out[0] = SPIKEFED_FMA(broadcast(1.0f / (kAA * kBB)), m[0], even_a + even_b);
    out[1] = SPIKEFED_FMA(broadcast(kB), odd_b, broadcast(kA) * odd_a);
    out[2] = SPIKEFED_FMA(broadcast(kBB), even_b, SPIKEFED_FMA(broadcast(kAA), even_a, m[5 * step]));
}

// One dimension of A y: four gradients of outputs to six points (the transpose of from_points).
static SPIKEFED_INLINE void outputs_to_points(const Vec *y, int64_t step, Vec *out) {
    const Vec even_a = SPIKEFED_FMA(broadcast(kAA), y[2 * step], y[0]), even_b = SPIKEFED_FMA(broadcast(kBB), y[2 * step], y[0]);
    const Vec odd_a = SPIKEFED_FMA(broadcast(kA * kAA), y[3 * step], broadcast(kA) * y[step]);
    const Vec odd_b = SPIKEFED_FMA(broadcast(kB * kBB), y[3 * step], broadcast(kB) * y[step]);
    out[0] = y[0];
    out[1] = even_a + odd_a;
    out[2] = even_a - odd_a;
    out[3] = even_b + odd_b;
    out[4] = even_b - odd_b;
    out[5] = y[3 * step];
}

// The part of every map that tiles of one kind cover: `down` x `across` of them from (top, left) on.
struct Region {
    int64_t top, left, down, across;
};

// How a region of the batch is cut into tiles of D x A and the tiles into blocks of `least` to `most` that fill `bytes`.
template <int D, int A> struct Tiles : Region {
    static constexpr int kPoints = (D + 2) * (A + 2);
    int64_t count, block;      // all; tiles of a block, a multiple of kRows
    int64_t in_row, out_row;   // floats of a tile's inputs and outputs at one point
    int64_t in_size, out_size; // floats of a block's: an odd number of cache lines, or the points would push each other out
    Tiles(const Winograd &a, const Region &region, int64_t bytes, int64_t least, int64_t most)
        : Region(region), count(a.images * down * across), block(0), in_row((a.in_channels + kVec - 1) / kVec * kVec + (a.in_channels >= 64 ? 16 : 0)),
          out_row((a.out_channels + kPanel - 1) / kPanel * kPanel) {
        const int64_t room = bytes / static_cast<int64_t>(sizeof(float)) / (kPoints * (in_row + out_row));
        block = larger(least, smaller(most, room)) / kRows * kRows;
        in_size = (block * in_row / 16 | 1) * 16;
        out_size = (block * out_row / 16 | 1) * 16;
    }
    // Image, top and left of the outputs of a tile.
    void find(int64_t tile, int64_t &image, int64_t &row, int64_t &column) const {
        const int64_t place = tile % (down * across);
        image = tile / (down * across);
        row = top + place / across * D;
        column = left + place % across * A;
    }
    bool ends_row(int64_t tile) const { return tile % across == across - 1; }
};

// ---- weights ------------------------------------------------------------------------------------------------------------------

// Floats of one point's weights: an odd number of cache lines, or the points would push each other out.
static int64_t weight_size(const Winograd &a) { return ((a.out_channels + kPanel - 1) / kPanel * a.in_channels * kPanel / 16 | 1) * 16; }

// To [points][weight_size]: [panel][Ci][kPanel], the order in which the products read them.
template <int D, int A> static void transform_weights(const Winograd &a, float *to) {
    const int64_t Ci = a.in_channels, Co = a.out_channels, panels = (Co + kPanel - 1) / kPanel, size = weight_size(a);
    const int64_t next_in = a.gradient ? Co * 9 : 9, next_out = a.gradient ? 9 : Ci * 9;
    parallel(panels * Ci, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t panel = i / Ci, k = i % Ci;
            float taps[9][kPanel] = {};
            for (int64_t n = 0; n < smaller(kPanel, Co - panel * kPanel); ++n) {
                const float *from = a.weight + k * next_in + (panel * kPanel + n) * next_out;
                for (int tap = 0; tap < 9; ++tap) taps[a.gradient ? 8 - tap : tap][n] = from[tap];
            }
            for (int v = 0; v < kWide; ++v) {
                Vec g[9], half[(D + 2) * 3], u[(D > A ? D : A) + 2];
                for (int tap = 0; tap < 9; ++tap) {
                    uint16_t rounded[kVec];
                    if (a.dtype == 1) store_some(rounded, load_vec(taps[tap] + v * kVec), kVec);
                    g[tap] = a.dtype == 1 ? load_some(rounded, kVec) : load_vec(taps[tap] + v * kVec);
                }
                for (int column = 0; column < 3; ++column) {
                    weights_to_points<D>(g + column, 3, u);
                    for (int row = 0; row < D + 2; ++row) half[row * 3 + column] = u[row];
                }
                for (int row = 0; row < D + 2; ++row) {
                    weights_to_points<A>(half + row * 3, 1, u);
                    for (int column = 0; column < A + 2; ++column)
                        store_vec(to + (row * (A + 2) + column) * size + (panel * Ci + k) * kPanel + v * kVec, u[column]);
                }
            }
        }
    });
}

// ---- inputs -------------------------------------------------------------------------------------------------------------------

// Where the inputs of a tile begin; `blank` (zeros) beyond the edges.
template <int D, int A, class E> static void find_inputs(const Winograd &a, const Tiles<D, A> &tiles, int64_t tile, const E *blank, const E **from) {
    int64_t image, top, left;
    tiles.find(tile, image, top, left);
    const int64_t H = a.height, W = a.width, Ci = a.in_channels;
    const E *map = static_cast<const E *>(a.x) + image * H * W * Ci;
    for (int64_t i = 0; i < D + 2; ++i) {
        const int64_t h = top - 1 + i, first = (h * W + left - 1) * Ci;
        const bool within = h >= 0 && h < H;
        SPIKEFED_UNROLL_ALL
        for (int64_t j = 0; j < A + 2; ++j) {
            const int64_t w = left - 1 + j;
            from[i * (A + 2) + j] = within && w >= 0 && w < W ? map + first + j * Ci : blank;
        }
    }
}

// A tile of a block: `to` [points][in_size]. `next`: the inputs of the next tile, which are asked for ahead of their use but for
// `known` columns that this one has read.
template <int D, int A, class E>
static void transform_input(const Winograd &a, const Tiles<D, A> &tiles, const E *const *from, const E *const *next, int known, float *to) {
    for (int64_t c = 0; c < a.in_channels; c += kVec) {
        const int64_t lanes = smaller(kVec, a.in_channels - c);
        Vec half[(D + 2) * (A + 2)], d[D + 2], v[(D > A ? D : A) + 2];
        for (int column = 0; column < A + 2; ++column) {
            for (int row = 0; row < D + 2; ++row) {
                d[row] = load_some(from[row * (A + 2) + column] + c, lanes);
                if (column >= known && c * static_cast<int64_t>(sizeof(E)) % 64 == 0) SPIKEFED_PREFETCH(next[row * (A + 2) + column] + c, 0);
            }
            to_points<D>(d, 1, v);
            for (int row = 0; row < D + 2; ++row) half[row * (A + 2) + column] = v[row];
        }
        for (int row = 0; row < D + 2; ++row) {
            to_points<A>(half + row * (A + 2), 1, v);
            for (int column = 0; column < A + 2; ++column) {
                float *at = to + (row * (A + 2) + column) * tiles.in_size + c;
                SPIKEFED_PREFETCH(at + tiles.in_row, 1); // the next tile's: stores wait for their lines one after the other
                store_vec(at, v[column]);
            }
        }
    }
}

// ---- outputs ------------------------------------------------------------------------------------------------------------------

// Bytes of a pixel up to which what the next tile writes is asked for ahead: 16 larger ones push each other out.
static constexpr int64_t kAhead = 1024;

// `from`: the tile's row at the first point, [points][out_size].
template <int D, int A, class E> static void transform_output(const Winograd &a, const Tiles<D, A> &tiles, int64_t tile, const float *from) {
    const int64_t Co = a.out_channels;
    int64_t image, top, left;
    tiles.find(tile, image, top, left);
    const int64_t rows = smaller(D, a.height - top), columns = smaller(A, a.width - left);
    E *out = static_cast<E *>(a.out) + ((image * a.height + top) * a.width + left) * Co;
    const bool ahead = Co * static_cast<int64_t>(sizeof(E)) <= kAhead;
    int64_t later, below, right;
    tiles.find(tile + 1, later, below, right);
    const int64_t to_next = (((later - image) * a.height + below - top) * a.width + right - left) * Co;
    for (int64_t c = 0; c < Co; c += kVec) {
        Vec half[D * (A + 2)], m[D + 2], y[D > A ? D : A];
        for (int column = 0; column < A + 2; ++column) {
            for (int row = 0; row < D + 2; ++row) m[row] = load_vec(from + (row * (A + 2) + column) * tiles.out_size + c);
            from_points<D>(m, 1, y);
            for (int row = 0; row < D; ++row) half[row * (A + 2) + column] = y[row];
        }
        const int64_t lanes = smaller(kVec, Co - c);
        const Vec bias = a.bias ? load_some(a.bias + c, lanes) : broadcast(0.0f);
        for (int64_t row = 0; row < rows; ++row) {
            from_points<A>(half + row * (A + 2), 1, y);
            for (int64_t column = 0; column < columns; ++column) {
                E *at = out + (row * a.width + column) * Co + c;
                if (ahead && c * static_cast<int64_t>(sizeof(E)) % 64 == 0) SPIKEFED_PREFETCH(at + to_next, 1); // the next tile's
                store_some(at, y[column] + bias, lanes);
            }
        }
    }
}

// The same without a bias for means over 2x2 outputs, which alone are written; the sums of all outputs and of their squares go to `sums`.
template <class E> static void transform_halved(const Winograd &a, const Tiles<4, 4> &tiles, int64_t tile, const float *from) {
    const int64_t Co = a.out_channels;
    int64_t image, top, left;
    tiles.find(tile, image, top, left);
    const int64_t rows = smaller(4, a.height - top), columns = smaller(4, a.width - left);
    E *out = static_cast<E *>(a.out) + ((image * a.height / 2 + top / 2) * (a.width / 2) + left / 2) * Co;
    double *sums = a.sums + image * 2 * Co;
    for (int64_t c = 0; c < Co; c += kVec) {
        Vec half[24], m[6], y[8];
        for (int column = 0; column < 6; ++column) {
            for (int row = 0; row < 6; ++row) m[row] = load_vec(from + (row * 6 + column) * tiles.out_size + c);
            from_points<4>(m, 1, y);
            for (int row = 0; row < 4; ++row) half[row * 6 + column] = y[row];
        }
        const int64_t lanes = smaller(kVec, Co - c);
        Vec sum = broadcast(0.0f), squares = broadcast(0.0f);
        for (int64_t row = 0; row < rows; row += 2) {
            from_points<4>(half + row * 6, 1, y);
            from_points<4>(half + row * 6 + 6, 1, y + 4);
            for (int64_t column = 0; column < columns; column += 2) {
                const Vec *v = y + column;
                const Vec four = (v[0] + v[1]) + (v[4] + v[5]);
                sum = sum + four;
                squares = SPIKEFED_FMA(v[0], v[0], SPIKEFED_FMA(v[1], v[1], SPIKEFED_FMA(v[4], v[4], SPIKEFED_FMA(v[5], v[5], squares))));
                store_some(out + (row / 2 * (a.width / 2) + column / 2) * Co + c, broadcast(0.25f) * four, lanes);
            }
        }
        float one[kVec], two[kVec];
        store_vec(one, sum);
        store_vec(two, squares);
        for (int64_t n = 0; n < lanes; ++n) {
            sums[c + n] += one[n];
            sums[Co + c + n] += two[n];
        }
    }
}

// Bytes of all weights of a layer up to which they stay in the second-level cache, and in the last.
static constexpr int64_t kSecondCache = 1 << 20, kLastCache = 12 << 20;

template <int D, int A, class E> static void convolve_region(const Winograd &a, const Region &region) {
    using Cut = Tiles<D, A>;
    // Blocks of a few rows of the product leave the second-level cache to weights; those beyond the last cache are read from memory once a
    // block, so there blocks are large.
    const int64_t size = weight_size(a), bytes = Cut::kPoints * size * static_cast<int64_t>(sizeof(float));
    const bool large = bytes > kLastCache;
    const int64_t few = bytes > kSecondCache ? kRows : 12;
    const Cut tiles(a, region, large ? 16 << 20 : 0, large ? 24 : few, large ? 384 : few);
    const int64_t panels = tiles.out_row / kPanel, blocks = (tiles.count + tiles.block - 1) / tiles.block;
    float *weight = unset<float>(Cut::kPoints * size);
    transform_weights<D, A>(a, weight);
    parallel(blocks, a.threads, [&](int64_t begin, int64_t end) {
        float *in = unset<float>(Cut::kPoints * tiles.in_size + 16), *out = unset<float>(Cut::kPoints * tiles.out_size);
        E *blank = scratch<E>(tiles.in_row);
        const E *from[2][Cut::kPoints];
        for (int64_t i = begin; i < end; ++i) {
            const int64_t first = i * tiles.block, n = smaller(tiles.block, tiles.count - first);
            find_inputs(a, tiles, first, blank, from[first % 2]);
            for (int64_t tile = first; tile < first + n; ++tile) {
                find_inputs(a, tiles, smaller(tile + 1, tiles.count - 1), blank, from[(tile + 1) % 2]);
                transform_input(a, tiles, from[tile % 2], from[(tile + 1) % 2], tiles.ends_row(tile) ? 0 : 2, in + (tile - first) * tiles.in_row);
            }
            for (int64_t point = 0; point < Cut::kPoints; ++point)
                for (int64_t panel = 0; panel < panels; ++panel) {
                    const float *w = weight + point * size + panel * a.in_channels * kPanel;
                    for (int64_t t = 0; t < n; t += kRows) // rows beyond n hold old numbers, which nobody reads
                        multiply_panel<false>(a.out_channels - panel * kPanel, in + point * tiles.in_size + t * tiles.in_row, tiles.in_row, 1, w, kPanel, a.in_channels,
                                        out + point * tiles.out_size + t * tiles.out_row + panel * kPanel, tiles.out_row);
                }
            for (int64_t t = 0; t < n; ++t) {
                const float *row = out + t * tiles.out_row;
                if constexpr (D == 4 && A == 4)
                    if (a.sums) {
                        transform_halved<E>(a, tiles, first + t, row);
                        continue;
                    }
                transform_output<D, A, E>(a, tiles, first + t, row);
            }
        }
        release(blank);
        release(out);
        release(in);
    });
    release(weight);
}

// Whether a side begins with 6 outputs, so that tiles of 4 waste less of the rest: 6 + 4 + 4 where four times 4 would cover 14. Not on
// short sides, of which 6 would be half, nor in sums over many channels, whose error is larger as it is.
static bool begins_with_six(const Winograd &a, int64_t side) {
    return !a.sums && a.in_channels <= 64 && side > 12 && (side % 4 == 1 || side % 4 == 2);
}

template <class E> static void convolve_typed(const Winograd &a) {
    const int64_t H = a.height, W = a.width;
    if (sizeof(E) == 2 && !a.sums && H % 4 == 0 && W % 8 == 0) return convolve_region<4, 8, E>(a, {0, 0, H / 4, W / 8});
    const int64_t top = begins_with_six(a, H) ? 6 : 0, left = begins_with_six(a, W) ? 6 : 0;
    const int64_t down = (H - top + 3) / 4, across = (W - left + 3) / 4;
    if (top && left) convolve_region<6, 6, E>(a, {0, 0, 1, 1});
    if (top) convolve_region<6, 4, E>(a, {0, left, 1, across});
    if (left) convolve_region<4, 6, E>(a, {top, 0, down, 1});
    convolve_region<4, 4, E>(a, {top, left, down, across});
}

static void winograd_convolve(const Winograd &a) { a.dtype == 0 ? convolve_typed<F32>(a) : convolve_typed<BF16>(a); }

// ---- weight gradient ----------------------------------------------------------------------------------------------------------

// The 4x4 gradients of a tile's outputs to `to` [kPoints][out_size]; 0 beyond the edges.
template <class E> static void transform_upstream(const Winograd &a, const Tiles<4, 4> &tiles, int64_t tile, float *to) {
    const int64_t Co = a.out_channels;
    int64_t image, top, left;
    tiles.find(tile, image, top, left);
    const int64_t rows = smaller(4, a.height - top), columns = smaller(4, a.width - left);
    const E *from = static_cast<const E *>(a.go) + ((image * a.height + top) * a.width + left) * Co;
    for (int64_t c = 0; c < Co; c += kVec) {
        const int64_t lanes = smaller(kVec, Co - c);
        Vec half[24], y[4], m[6];
        for (int column = 0; column < 4; ++column) {
            for (int row = 0; row < 4; ++row) {
                const E *at = from + (row * a.width + column) * Co + c;
                const bool inside = row < rows && column < columns;
                y[row] = inside ? load_some(at, lanes) : broadcast(0.0f);
                if (inside && c * static_cast<int64_t>(sizeof(E)) % 64 == 0) SPIKEFED_PREFETCH(at + 4 * Co, 0);
            }
            outputs_to_points(y, 1, m);
            for (int row = 0; row < 6; ++row) half[row * 4 + column] = m[row];
        }
        for (int row = 0; row < 6; ++row) {
            outputs_to_points(half + row * 4, 1, m);
            for (int column = 0; column < 6; ++column) {
                float *at = to + (row * 6 + column) * tiles.out_size + c;
                SPIKEFED_PREFETCH(at + tiles.out_row, 1);
                store_vec(at, m[column]);
            }
        }
    }
}

// From `sums` [kPoints][rows of Ci][out_row] to weights [Co, Ci, 3, 3].
static void weights_from_points(const Winograd &a, const Tiles<4, 4> &tiles, const float *sums, int64_t size) {
    parallel(a.in_channels, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            for (int64_t c = 0; c < a.out_channels; c += kVec) {
                Vec half[18], m[6], g[3];
                for (int column = 0; column < 6; ++column) {
                    for (int row = 0; row < 6; ++row) m[row] = load_vec(sums + (row * 6 + column) * size + i * tiles.out_row + c);
                    points_to_weights(m, 1, g);
                    for (int row = 0; row < 3; ++row) half[row * 6 + column] = g[row];
                }
                for (int row = 0; row < 3; ++row) {
                    points_to_weights(half + row * 6, 1, g);
                    for (int column = 0; column < 3; ++column) {
                        float lanes[kVec];
                        store_vec(lanes, g[column]);
                        for (int64_t n = 0; n < smaller(kVec, a.out_channels - c); ++n)
                            a.weight[((c + n) * a.in_channels + i) * 9 + row * 3 + column] = lanes[n];
                    }
                }
            }
    });
}

// Blocks follow each other; inside a block tiles, then points are shared out: no sum depends on the number of threads.
template <class E> static void weight_grad_typed(const Winograd &a) {
    const int64_t rows = (a.in_channels + kRows - 1) / kRows * kRows, panels = (a.out_channels + kPanel - 1) / kPanel;
    const int64_t size = rows * panels * kPanel, sum_bytes = kPoints * size * static_cast<int64_t>(sizeof(float));
    const Tiles<4, 4> tiles(a, {0, 0, (a.height + 3) / 4, (a.width + 3) / 4}, smaller(8 << 20, larger(1 << 19, 2 * sum_bytes)), 24, 256);
    float *sums = scratch<float>(kPoints * size), *in = unset<float>(kPoints * tiles.in_size + 16), *out = unset<float>(kPoints * tiles.out_size);
    E *blank = scratch<E>(tiles.in_row);
    for (int64_t first = 0; first < tiles.count; first += tiles.block) {
        const int64_t n = smaller(tiles.block, tiles.count - first);
        parallel(n, a.threads, [&](int64_t begin, int64_t end) {
            const E *from[2][kPoints];
            find_inputs(a, tiles, first + begin, blank, from[begin % 2]);
            for (int64_t t = begin; t < end; ++t) {
                find_inputs(a, tiles, smaller(first + t + 1, tiles.count - 1), blank, from[(t + 1) % 2]);
                transform_input(a, tiles, from[t % 2], from[(t + 1) % 2], tiles.ends_row(first + t) ? 0 : 2, in + t * tiles.in_row);
                transform_upstream<E>(a, tiles, first + t, out + t * tiles.out_row);
            }
        });
        parallel(kPoints, a.threads, [&](int64_t begin, int64_t end) {
            for (int64_t point = begin; point < end; ++point)
                for (int64_t r = 0; r < rows; r += kRows)
                    for (int64_t c = 0; c < panels * kPanel; c += kPanel)
                        multiply_panel<true>(a.out_channels - c, in + point * tiles.in_size + r, 1, tiles.in_row, out + point * tiles.out_size + c, tiles.out_row, n,
                                       sums + point * size + r * tiles.out_row + c, tiles.out_row);
        });
    }
    weights_from_points(a, tiles, sums, size);
    release(blank);
    release(out);
    release(in);
    release(sums);
}

static void winograd_weight_grad(const Winograd &a) { a.dtype == 0 ? weight_grad_typed<F32>(a) : weight_grad_typed<BF16>(a); }
