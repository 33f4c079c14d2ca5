// Dense 3x3 convolution, stride 1, padding 1, by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2016): a tile of 4x4 outputs
// needs 36 products of channel vectors instead of 144. Included once per instruction set (see norm_lif.inl for the rules).
//
//   Y = A' [ sum over channels of (G g G') * (B' d B) ] A      d: 6x6 inputs, g: 3x3 weights, Y: 4x4 outputs
//
// The interpolation points are 0, +-3/4, +-3/2 and infinity: their powers are exact and of like size, so the error is 1.7 times that of
// the direct sum (measured in float32 over 256 channels), where the usual 0, +-1, +-2 give 4 times.
//
// Tiles go through in blocks: transform a block's inputs, multiply at each of the 36 points [tiles x in] * [in x out], transform back.
// A block's numbers stay in the second-level cache. No sum depends on how tiles are cut into blocks or threads.

static constexpr int64_t kPoints = 36;

// Tiles of the product held in registers, and the vectors of output channels of each.
#if defined(SPIKEFED_AVX512)
static constexpr int kTiles = 12, kWide = 2;
#else
static constexpr int kTiles = 6, kWide = 2;
#endif
static constexpr int64_t kPanel = kWide * kVec; // output channels of a panel of weights

static constexpr float kA = 0.75f, kB = 1.5f, kAA = kA * kA, kBB = kB * kB;

// One dimension of B' d: six inputs to six points.
static SPIKEFED_INLINE void to_points(const Vec *d, int64_t step, Vec *out) {
    const Vec sum = broadcast(-(kAA + kBB)), product = broadcast(kAA * kBB);
    const Vec minus_aa = broadcast(-kAA), minus_bb = broadcast(-kBB), a = broadcast(kA), b = broadcast(kB);
    const Vec even_a = SPIKEFED_FMA(minus_bb, d[2 * step], d[4 * step]), odd_a = a * SPIKEFED_FMA(minus_bb, d[step], d[3 * step]);
    const Vec even_b = SPIKEFED_FMA(minus_aa, d[2 * step], d[4 * step]), odd_b = b * SPIKEFED_FMA(minus_aa, d[step], d[3 * step]);
    out[0] = SPIKEFED_FMA(product, d[0], SPIKEFED_FMA(sum, d[2 * step], d[4 * step]));
    out[1] = even_a + odd_a;
    out[2] = even_a - odd_a;
    out[3] = even_b + odd_b;
    out[4] = even_b - odd_b;
    out[5] = SPIKEFED_FMA(product, d[step], SPIKEFED_FMA(sum, d[3 * step], d[5 * step]));
}

// One dimension of G g: three weights to six points.
static SPIKEFED_INLINE void weights_to_points(const Vec *g, int64_t step, Vec *out) {
    const Vec at_a = broadcast(1.0f / (2 * kAA * (kAA - kBB))), at_b = broadcast(1.0f / (2 * kBB * (kBB - kAA)));
    const Vec odd_a = broadcast(kA) * g[step], odd_b = broadcast(kB) * g[step];
    const Vec even_a = SPIKEFED_FMA(broadcast(kAA), g[2 * step], g[0]), even_b = SPIKEFED_FMA(broadcast(kBB), g[2 * step], g[0]);
    out[0] = broadcast(1.0f / (kAA * kBB)) * g[0];
    out[1] = at_a * (even_a + odd_a);
    out[2] = at_a * (even_a - odd_a);
    out[3] = at_b * (even_b + odd_b);
    out[4] = at_b * (even_b - odd_b);
    out[5] = g[2 * step];
}

// One dimension of A' m: six points to four outputs.
static SPIKEFED_INLINE void from_points(const Vec *m, int64_t step, Vec *out) {
    const Vec plus_a = m[step] + m[2 * step], minus_a = m[step] - m[2 * step];
    const Vec plus_b = m[3 * step] + m[4 * step], minus_b = m[3 * step] - m[4 * step];
    out[0] = m[0] + (plus_a + plus_b);
    out[1] = SPIKEFED_FMA(broadcast(kB), minus_b, broadcast(kA) * minus_a);
    out[2] = SPIKEFED_FMA(broadcast(kBB), plus_b, broadcast(kAA) * plus_a);
    out[3] = SPIKEFED_FMA(broadcast(kB * kBB), minus_b, SPIKEFED_FMA(broadcast(kA * kAA), minus_a, m[5 * step]));
}

// How the batch is cut into tiles and the tiles into blocks.
struct Tiles {
    int64_t down, across, count, block; // of an image; all; tiles of a block, a multiple of kTiles
    int64_t in_row, out_row;            // floats of a tile's inputs and outputs at one point
    int64_t in_size, out_size;          // floats of a block's: an odd number of cache lines, or the points would push each other out
    explicit Tiles(const Winograd &a)
        : down((a.height + 3) / 4), across((a.width + 3) / 4), count(a.images * down * across), block(0),
          in_row((a.in_channels + kVec - 1) / kVec * kVec + 16), out_row((a.out_channels + kPanel - 1) / kPanel * kPanel) {
        const int64_t room = (1 << 20) / static_cast<int64_t>(sizeof(float)) / (kPoints * (in_row + out_row));
        block = larger(24, smaller(96, room)) / kTiles * kTiles;
        in_size = (block * in_row / 16 | 1) * 16;
        out_size = (block * out_row / 16 | 1) * 16;
    }
};

// ---- weights ------------------------------------------------------------------------------------------------------------------

// To [kPoints][panel][Ci][kPanel]: the order in which the products read them.
static void transform_weights(const Winograd &a, float *to) {
    const int64_t Ci = a.in_channels, Co = a.out_channels, panels = (Co + kPanel - 1) / kPanel;
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
                Vec g[9], half[18], u[6];
                for (int tap = 0; tap < 9; ++tap) {
                    uint16_t rounded[kVec];
                    if (a.dtype == 1) store_some(rounded, load_vec(taps[tap] + v * kVec), kVec);
                    g[tap] = a.dtype == 1 ? load_some(rounded, kVec) : load_vec(taps[tap] + v * kVec);
                }
                for (int column = 0; column < 3; ++column) {
                    weights_to_points(g + column, 3, u);
                    for (int row = 0; row < 6; ++row) half[row * 3 + column] = u[row];
                }
                for (int row = 0; row < 6; ++row) {
                    weights_to_points(half + row * 3, 1, u);
                    for (int column = 0; column < 6; ++column)
                        store_vec(to + (((row * 6 + column) * panels + panel) * Ci + k) * kPanel + v * kVec, u[column]);
                }
            }
        }
    });
}

// ---- inputs -------------------------------------------------------------------------------------------------------------------

// Where the 6x6 inputs of a tile begin; `blank` (zeros) beyond the edges.
template <class E> static void find_inputs(const Winograd &a, const Tiles &tiles, int64_t tile, const E *blank, const E **from) {
    const int64_t image = tile / (tiles.down * tiles.across), place = tile % (tiles.down * tiles.across);
    const int64_t top = place / tiles.across * 4 - 1, left = place % tiles.across * 4 - 1;
    const E *x = static_cast<const E *>(a.x);
    for (int64_t i = 0; i < 6; ++i)
        for (int64_t j = 0; j < 6; ++j) {
            const int64_t h = top + i, w = left + j;
            const bool inside = h >= 0 && h < a.height && w >= 0 && w < a.width;
            from[i * 6 + j] = inside ? x + ((image * a.height + h) * a.width + w) * a.in_channels : blank;
        }
}

// Tile `row` of a block: `to` [kPoints][in_size].
template <class E> static void transform_input(const Winograd &a, const Tiles &tiles, const E *const *from, float *to) {
    for (int64_t c = 0; c < a.in_channels; c += kVec) {
        const int64_t lanes = smaller(kVec, a.in_channels - c);
        Vec half[36], d[6], v[6];
        for (int column = 0; column < 6; ++column) {
            for (int row = 0; row < 6; ++row) {
                d[row] = load_some(from[row * 6 + column] + c, lanes);
                if (column > 1 && c * static_cast<int64_t>(sizeof(E)) % 64 == 0) SPIKEFED_PREFETCH(from[row * 6 + column] + c + 4 * a.in_channels, 0);
            }
            to_points(d, 1, v);
            for (int row = 0; row < 6; ++row) half[row * 6 + column] = v[row];
        }
        for (int row = 0; row < 6; ++row) {
            to_points(half + row * 6, 1, v);
            for (int column = 0; column < 6; ++column) store_vec(to + (row * 6 + column) * tiles.in_size + c, v[column]);
        }
    }
}

// ---- products -----------------------------------------------------------------------------------------------------------------

// c [kTiles][kPanel] = a [kTiles][K] * b [K][kPanel].
static void multiply(const float *__restrict a, int64_t a_row, const float *__restrict b, int64_t K, float *__restrict c, int64_t c_row) {
    Vec sums[kTiles][kWide];
    SPIKEFED_UNROLL_ALL
    for (int t = 0; t < kTiles; ++t) {
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < kWide; ++v) sums[t][v] = broadcast(0.0f);
    }
    for (int64_t k = 0; k < K; ++k) {
        Vec w[kWide];
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < kWide; ++v) w[v] = load_vec(b + k * kPanel + v * kVec);
        SPIKEFED_UNROLL_ALL
        for (int t = 0; t < kTiles; ++t) {
            const Vec x = broadcast(a[t * a_row + k]);
            SPIKEFED_UNROLL_ALL
            for (int v = 0; v < kWide; ++v) sums[t][v] = SPIKEFED_FMA(x, w[v], sums[t][v]);
        }
    }
    SPIKEFED_UNROLL_ALL
    for (int t = 0; t < kTiles; ++t) {
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < kWide; ++v) store_vec(c + t * c_row + v * kVec, sums[t][v]);
    }
}

// ---- outputs ------------------------------------------------------------------------------------------------------------------

// `from`: the tile's row at the first point, [kPoints][out_size].
template <class E> static void transform_output(const Winograd &a, const Tiles &tiles, int64_t tile, const float *from) {
    const int64_t image = tile / (tiles.down * tiles.across), place = tile % (tiles.down * tiles.across), Co = a.out_channels;
    const int64_t top = place / tiles.across * 4, left = place % tiles.across * 4;
    const int64_t rows = smaller(4, a.height - top), columns = smaller(4, a.width - left);
    E *out = static_cast<E *>(a.out) + ((image * a.height + top) * a.width + left) * Co;
    for (int64_t c = 0; c < Co; c += kVec) {
        Vec half[24], m[6], y[4];
        for (int column = 0; column < 6; ++column) {
            for (int row = 0; row < 6; ++row) m[row] = load_vec(from + (row * 6 + column) * tiles.out_size + c);
            from_points(m, 1, y);
            for (int row = 0; row < 4; ++row) half[row * 6 + column] = y[row];
        }
        const int64_t lanes = smaller(kVec, Co - c);
        const Vec bias = a.bias ? load_some(a.bias + c, lanes) : broadcast(0.0f);
        for (int64_t row = 0; row < rows; ++row) {
            from_points(half + row * 6, 1, y);
            for (int64_t column = 0; column < columns; ++column)
                store_some(out + (row * a.width + column) * Co + c, y[column] + bias, lanes);
        }
    }
}

template <class E> static void winograd_typed(const Winograd &a) {
    const Tiles tiles(a);
    const int64_t panels = tiles.out_row / kPanel, blocks = (tiles.count + tiles.block - 1) / tiles.block;
    float *weight = unset<float>(panels * kPoints * a.in_channels * kPanel);
    transform_weights(a, weight);
    parallel(blocks, a.threads, [&](int64_t begin, int64_t end) {
        float *in = scratch<float>(kPoints * tiles.in_size), *out = scratch<float>(kPoints * tiles.out_size);
        E *blank = scratch<E>(tiles.in_row);
        const E *from[kPoints];
        for (int64_t i = begin; i < end; ++i) {
            const int64_t first = i * tiles.block, n = smaller(tiles.block, tiles.count - first);
            for (int64_t t = 0; t < n; ++t) {
                find_inputs(a, tiles, first + t, blank, from);
                transform_input(a, tiles, from, in + t * tiles.in_row);
            }
            for (int64_t point = 0; point < kPoints; ++point)
                for (int64_t panel = 0; panel < panels; ++panel) {
                    const float *w = weight + (point * panels + panel) * a.in_channels * kPanel;
                    for (int64_t t = 0; t < n; t += kTiles) // rows beyond n hold old numbers, which nobody reads
                        multiply(in + point * tiles.in_size + t * tiles.in_row, tiles.in_row, w, a.in_channels,
                                 out + point * tiles.out_size + t * tiles.out_row + panel * kPanel, tiles.out_row);
                }
            for (int64_t t = 0; t < n; ++t) transform_output<E>(a, tiles, first + t, out + t * tiles.out_row);
        }
        release(blank);
        release(out);
        release(in);
    });
    release(weight);
}

static void winograd(const Winograd &a) { a.dtype == 0 ? winograd_typed<F32>(a) : winograd_typed<BF16>(a); }
