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

// Where an image stands among all.
static SPIKEFED_INLINE int64_t at_of(const Winograd &a, int64_t image) { return a.apart ? image * a.apart : image; }

// How the batch is cut into tiles and the tiles into blocks that fill `room` bytes.
struct Tiles {
    int64_t down, across, count, block; // of an image; all; tiles of a block, a multiple of kRows
    int64_t in_row, out_row;            // floats of a tile's inputs and outputs at one point
    int64_t in_size, out_size;          // floats of a block's: an odd number of cache lines, or the points would push each other out
    Tiles(const Winograd &a, int64_t bytes, int64_t most)
        : down((a.height + 3) / 4), across((a.width + 3) / 4), count(a.images * down * across), block(0),
          in_row((a.in_channels + kVec - 1) / kVec * kVec + (a.in_channels >= 64 ? 16 : 0)), out_row((a.out_channels + kPanel - 1) / kPanel * kPanel) {
        const int64_t room = bytes / static_cast<int64_t>(sizeof(float)) / (kPoints * (in_row + out_row));
        block = larger(24, smaller(most, room)) / kRows * kRows;
        in_size = (block * in_row / 16 | 1) * 16;
        out_size = (block * out_row / 16 | 1) * 16;
    }
};

// ---- weights ------------------------------------------------------------------------------------------------------------------

// Floats of one point's weights: an odd number of cache lines, or the points would push each other out.
static int64_t weight_size(const Winograd &a) { return ((a.out_channels + kPanel - 1) / kPanel * a.in_channels * kPanel / 16 | 1) * 16; }

// To [kPoints][weight_size]: [panel][Ci][kPanel], the order in which the products read them.
static void transform_weights(const Winograd &a, float *to) {
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
                        store_vec(to + (row * 6 + column) * size + (panel * Ci + k) * kPanel + v * kVec, u[column]);
                }
            }
        }
    });
}

// ---- inputs -------------------------------------------------------------------------------------------------------------------

// Where the 6x6 inputs of a tile begin; `blank` (zeros) beyond the edges.
template <class E> static void find_inputs(const Winograd &a, const Tiles &tiles, int64_t tile, const E *blank, const E **from) {
    const int64_t image = at_of(a, tile / (tiles.down * tiles.across)), place = tile % (tiles.down * tiles.across);
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
            for (int column = 0; column < 6; ++column) {
                float *at = to + (row * 6 + column) * tiles.in_size + c;
                SPIKEFED_PREFETCH(at + tiles.in_row, 1); // the next tile's: stores wait for their lines one after the other
                store_vec(at, v[column]);
            }
        }
    }
}

// ---- outputs ------------------------------------------------------------------------------------------------------------------

// Bytes of a pixel up to which what the next tile writes is asked for ahead: 16 larger ones push each other out.
static constexpr int64_t kAhead = 1024;

// `from`: the tile's row at the first point, [kPoints][out_size].
template <class E> static void transform_output(const Winograd &a, const Tiles &tiles, int64_t tile, const float *from) {
    const int64_t image = tile / (tiles.down * tiles.across), place = tile % (tiles.down * tiles.across), Co = a.out_channels;
    const int64_t top = place / tiles.across * 4, left = place % tiles.across * 4;
    const int64_t rows = smaller(4, a.height - top), columns = smaller(4, a.width - left);
    E *out = static_cast<E *>(a.out) + ((image * a.height + top) * a.width + left) * Co;
    const bool ahead = Co * static_cast<int64_t>(sizeof(E)) <= kAhead;
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
            for (int64_t column = 0; column < columns; ++column) {
                E *at = out + (row * a.width + column) * Co + c;
                if (ahead && c * static_cast<int64_t>(sizeof(E)) % 64 == 0) SPIKEFED_PREFETCH(at + 4 * Co, 1); // the next tile's
                store_some(at, y[column] + bias, lanes);
            }
        }
    }
}

// The same without a bias for means over 2x2 outputs, which alone are written; the sums of all outputs and of their squares go to `sums`.
template <class E> static void transform_halved(const Winograd &a, const Tiles &tiles, int64_t tile, const float *from) {
    const int64_t image = tile / (tiles.down * tiles.across), place = tile % (tiles.down * tiles.across), Co = a.out_channels;
    const int64_t top = place / tiles.across * 4, left = place % tiles.across * 4;
    const int64_t rows = smaller(4, a.height - top), columns = smaller(4, a.width - left);
    E *out = static_cast<E *>(a.out) + ((image * a.height / 2 + top / 2) * (a.width / 2) + left / 2) * Co;
    double *sums = a.sums + image * 2 * Co;
    for (int64_t c = 0; c < Co; c += kVec) {
        Vec half[24], m[6], y[8];
        for (int column = 0; column < 6; ++column) {
            for (int row = 0; row < 6; ++row) m[row] = load_vec(from + (row * 6 + column) * tiles.out_size + c);
            from_points(m, 1, y);
            for (int row = 0; row < 4; ++row) half[row * 6 + column] = y[row];
        }
        const int64_t lanes = smaller(kVec, Co - c);
        Vec sum = broadcast(0.0f), squares = broadcast(0.0f);
        for (int64_t row = 0; row < rows; row += 2) {
            from_points(half + row * 6, 1, y);
            from_points(half + row * 6 + 6, 1, y + 4);
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

template <class E> static void convolve_typed(const Winograd &a) {
    // Large weights are read from memory once for every block of tiles, so blocks grow with them.
    const bool large = kPoints * a.in_channels * a.out_channels > 2 << 20;
    const Tiles tiles(a, large ? 8 << 20 : 1 << 19, large ? 384 : 96);
    const int64_t panels = tiles.out_row / kPanel, blocks = (tiles.count + tiles.block - 1) / tiles.block;
    const int64_t size = weight_size(a);
    float *weight = unset<float>(kPoints * size);
    transform_weights(a, weight);
    parallel(blocks, a.threads, [&](int64_t begin, int64_t end) {
        float *in = unset<float>(kPoints * tiles.in_size + 16), *out = unset<float>(kPoints * tiles.out_size);
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
                    const float *w = weight + point * size + panel * a.in_channels * kPanel;
                    for (int64_t t = 0; t < n; t += kRows) // rows beyond n hold old numbers, which nobody reads
                        multiply_panel<false>(a.out_channels - panel * kPanel, in + point * tiles.in_size + t * tiles.in_row, tiles.in_row, 1, w, kPanel, a.in_channels,
                                        out + point * tiles.out_size + t * tiles.out_row + panel * kPanel, tiles.out_row);
                }
            for (int64_t t = 0; t < n; ++t)
                a.sums ? transform_halved<E>(a, tiles, first + t, out + t * tiles.out_row) : transform_output<E>(a, tiles, first + t, out + t * tiles.out_row);
        }
        release(blank);
        release(out);
        release(in);
    });
    release(weight);
}

static void winograd_convolve(const Winograd &a) { a.dtype == 0 ? convolve_typed<F32>(a) : convolve_typed<BF16>(a); }

// ---- weight gradient ----------------------------------------------------------------------------------------------------------

// The 4x4 gradients of a tile's outputs to `to` [kPoints][out_size]; 0 beyond the edges.
template <class E> static void transform_upstream(const Winograd &a, const Tiles &tiles, int64_t tile, float *to) {
    const int64_t image = at_of(a, tile / (tiles.down * tiles.across)), place = tile % (tiles.down * tiles.across), Co = a.out_channels;
    const int64_t top = place / tiles.across * 4, left = place % tiles.across * 4;
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
static void weights_from_points(const Winograd &a, const Tiles &tiles, const float *sums, int64_t size) {
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
    const Tiles tiles(a, smaller(8 << 20, larger(1 << 19, 2 * sum_bytes)), 256);
    float *sums = scratch<float>(kPoints * size), *in = unset<float>(kPoints * tiles.in_size + 16), *out = unset<float>(kPoints * tiles.out_size);
    E *blank = scratch<E>(tiles.in_row);
    for (int64_t first = 0; first < tiles.count; first += tiles.block) {
        const int64_t n = smaller(tiles.block, tiles.count - first);
        parallel(n, a.threads, [&](int64_t begin, int64_t end) {
            const E *from[kPoints];
            for (int64_t t = begin; t < end; ++t) {
                find_inputs(a, tiles, first + t, blank, from);
                transform_input(a, tiles, from, in + t * tiles.in_row);
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
