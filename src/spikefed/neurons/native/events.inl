// Convolution over the non-zeros of its input ("events"), stride 1 or 2, same padding, odd square kernel; float32 sums.
// Included once per instruction set (see norm_lif.inl for the rules). SPIKEFED_FMA(a, b, c) = a * b + c on Vec.
//
// Forward: one output pixel at a time, its output channels in registers. The events under one row of the kernel are contiguous in
// the list (pixels of an image row follow each other), so a pixel needs K loops, not K * K. Weights are cut into blocks of output
// channels that stay in the second-level cache. Where those under one row of the kernel stay in the first-level cache, a few rows of
// outputs take them before the next row's turn comes: the same sums in the same order, put down and taken up again between.
//
// Backward: the batch is cut into bands (some images, or some rows of one image) and a band's events are grouped by input channel, so
// that the K * K taps of one input channel and 16 output channels stay in registers while the channel's events stream by, and
// the output gradient they meet lies in a zero-padded copy that fits the first-level cache: no edges.
//   weight gradient  each event adds the gradient around it to the sums
//   input gradient   each element of a window takes the dot product of the weights with the gradient around it
// With a stride of 2 an event meets the taps of its parity alone: of 3 rows one (even) or two (odd), and so of columns. Events are
// then grouped by parity inside a channel, and bands are bands of the output.

static int64_t out_side(int64_t side, int64_t stride) { return (side - 1) / stride + 1; }

static constexpr int64_t weight_words(const float *, int64_t channels) { return channels; }
static constexpr int64_t weight_words(const uint32_t *, int64_t channels) { return channels / 2; }

template <bool BINARY, int N> static SPIKEFED_INLINE void add_weights(const float *w, Vec x, Vec *acc) {
    for (int v = 0; v < N; ++v) acc[v] = BINARY ? SPIKEFED_ADD(load_vec(w + v * kVec), acc[v]) : SPIKEFED_FMA(x, load_vec(w + v * kVec), acc[v]);
}
template <bool BINARY, int N> static SPIKEFED_INLINE void add_weights(const uint32_t *w, Vec x, Vec *acc) {
    for (int v = 0; v + 1 < N; v += 2) {
        Vec low, high;
        load_pair(w + v / 2 * kVec, low, high);
        acc[v] = BINARY ? SPIKEFED_ADD(low, acc[v]) : SPIKEFED_FMA(x, low, acc[v]);
        acc[v + 1] = BINARY ? SPIKEFED_ADD(high, acc[v + 1]) : SPIKEFED_FMA(x, high, acc[v + 1]);
    }
}

// Rows of a kernel: all of them, or one after the other, which takes up sums from `out` but for the first.
struct KernelRows {
    int64_t from, to;
};

// One image row: `out` has NV * 16 channels every `pitch` floats. BINARY: every event is 1. T: float weights, or pairs of
// bfloat16 numbers (half the memory traffic, which is what limits this loop).
template <int NV, bool BINARY, class T>
static void forward_row(const Events &a, const T *weight, int64_t image, int64_t row, KernelRows taps, const float *bias, float *out, int64_t pitch) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, K = a.kernel, pad = K / 2, S = a.stride, block = NV * kEventLanes;
    const int64_t words = weight_words(weight, block), columns = out_side(W, S);
    for (int64_t ow = 0; ow < columns; ++ow) {
        Vec acc[NV * kEventLanes / kVec];
        const float *before = taps.from == 0 ? bias : out + ow * pitch;
        for (int v = 0; v < NV * kEventLanes / kVec; ++v) acc[v] = load_vec(before + v * kVec);
        for (int64_t kh = taps.from; kh < taps.to; ++kh) {
            const int64_t ih = row * S + kh - pad, left = ow * S - pad;
            if (ih < 0 || ih >= H) continue;
            const int32_t *at = a.offsets + (image * H + ih) * W;
            const int64_t first = larger(left, 0), last = smaller(left + K, W);
            // weight row of entry e: tap column (column - left), channel: e - left * Ci
            const T *base = weight + (kh * K * Ci - left * Ci) * words;
            for (int32_t e = at[first]; e < at[last]; ++e) {
                const Vec x = broadcast(BINARY ? 1.0f : a.value[e]);
                add_weights<BINARY, NV * kEventLanes / kVec>(base + static_cast<int64_t>(a.index[e]) * words, x, acc);
            }
        }
        for (int v = 0; v < NV * kEventLanes / kVec; ++v) store_vec(out + ow * pitch + v * kVec, acc[v]);
    }
}

template <class E> static void write_row(const float *from, E *to, int64_t W, int64_t Co, int64_t c0, int64_t block) {
    const int64_t n = smaller(block, Co - c0);
    for (int64_t w = 0; w < W; ++w) {
        const float *__restrict f = from + w * block;
        E *__restrict t = to + w * Co + c0;
        for (int64_t c = 0; c < n; ++c) store(t + c, f[c]);
    }
}

static constexpr int64_t kKernelRow = 24 << 10; // bytes of weights under a row of the kernel that the first-level cache holds beside the rest
static constexpr int64_t kTogether = 8;         // rows of outputs that take them one after the other
static constexpr int64_t kLongLoop = 28;        // events under a row of the kernel from which a second loop for them costs less than it saves

static bool by_kernel_rows(const Events &a, int64_t width) {
    return a.kernel == 3 && 3 * a.in_channels * width * static_cast<int64_t>(sizeof(float)) <= kKernelRow;
}

// Weights [Co][Ci][places] are packed into blocks [places][Ci][block]; the last block may be narrower.
static int64_t block_width(const Events &a, int64_t rows, int64_t Cp) {
    int64_t block = kMaxBlock;
    while (block > kEventLanes && (block > Cp || rows * block * 4 > (1 << 20) + (1 << 18))) block /= 2;
    const bool many = a.events * a.kernel >= kLongLoop * a.images * a.height * a.width;
    if (a.dtype == 0 && many && block > 32 && by_kernel_rows(a, 32)) return 32;
    return block;
}

template <bool BINARY, class T>
static void forward_wide(const Events &a, const T *w, int64_t image, int64_t row, KernelRows taps, const float *bias, float *out, int64_t pitch,
                         int64_t width) {
    switch (width) {
    case 256: return forward_row<16, BINARY>(a, w, image, row, taps, bias, out, pitch);
    case 128: return forward_row<8, BINARY>(a, w, image, row, taps, bias, out, pitch);
    case 64: return forward_row<4, BINARY>(a, w, image, row, taps, bias, out, pitch);
    case 32: return forward_row<2, BINARY>(a, w, image, row, taps, bias, out, pitch);
    default: return forward_row<1, BINARY>(a, w, image, row, taps, bias, out, pitch);
    }
}

static void round_weights(float *row, int64_t width) {
    for (int64_t j = 0; j < width; ++j) {
        uint16_t rounded;
        store(&rounded, row[j]);
        row[j] = load(rounded);
    }
}

// Weights of one event row, `width` channels, as the loop reads them.
static void pack_pairs(const float *from, uint32_t *to, int64_t width) {
    for (int64_t j = 0; j < width; j += 2 * kVec)
        for (int i = 0; i < kVec; ++i) {
            uint16_t low, high;
            store(&low, from[j + i]);
            store(&high, from[j + kVec + i]);
            to[j / 2 + i] = low | static_cast<uint32_t>(high) << 16;
        }
}

// Where the row (channel, place) of weights as they lie stands in a list: place, then channel.
struct Order {
    int64_t places, channels, rows;
    explicit Order(const Events &a) : places(a.places), channels(a.kernel * a.kernel * a.in_channels / a.places), rows(places * channels) {}
    int64_t operator()(int64_t row) const { return row % places * channels + row / places; }
};

static constexpr int64_t kLine = 16; // numbers of a cache line: rows that are turned together

// Rows [first, first + n), n <= kLine, of outputs [b0, b0 + width) to `to` [kLine][width]; outputs that do not exist are 0.
static void read_turned(const float *weight, int64_t rows, int64_t outputs, int64_t first, int64_t n, int64_t b0, int64_t width, float *to) {
    for (int64_t f = 0; f < width; f += 4) {
        const float *from = weight + (b0 + f) * rows + first;
        if (n == kLine && b0 + f + 4 <= outputs) {
            for (int64_t i = 0; i < 4; ++i) SPIKEFED_PREFETCH_FAR(from + i * rows + 4 * kLine);
            for (int64_t i = 0; i < kLine; i += 4) square(from + i, rows, to + i * width + f, width);
        } else
            for (int64_t j = f; j < f + 4; ++j)
                for (int64_t i = 0; i < n; ++i) to[i * width + j] = b0 + j < outputs ? weight[(b0 + j) * rows + first + i] : 0.0f;
    }
}

// The way back.
static void write_turned(const float *from, float *weight, int64_t rows, int64_t outputs, int64_t first, int64_t n, int64_t b0, int64_t width) {
    for (int64_t f = 0; f < width && b0 + f < outputs; f += 4) {
        float *to = weight + (b0 + f) * rows + first;
        if (n == kLine && b0 + f + 4 <= outputs)
            for (int64_t i = 0; i < kLine; i += 4) square(from + i * width + f, width, to + i, rows);
        else
            for (int64_t j = f; j < smaller(f + 4, outputs - b0); ++j)
                for (int64_t i = 0; i < n; ++i) weight[(b0 + j) * rows + first + i] = from[i * width + j];
    }
}

// Weights of `width` outputs from b0 on, rows [first, first + n), as the loop reads them: [rows][width], in bfloat16 rounded, or as `pairs`.
static void pack_rows(const Events &a, const Order &order, int64_t first, int64_t n, int64_t b0, int64_t width, bool pairs, float *packed) {
    float turned[kLine * kMaxBlock];
    read_turned(a.weight, order.rows, a.out_channels, first, n, b0, width, turned);
    for (int64_t i = 0; i < n; ++i) {
        const int64_t to = order(first + i) * width;
        if (pairs) {
            pack_pairs(turned + i * width, reinterpret_cast<uint32_t *>(packed) + to / 2, width);
            continue;
        }
        if (a.dtype == 1) round_weights(turned + i * width, width);
        memcpy(packed + to, turned + i * width, sizeof(float) * static_cast<size_t>(width));
    }
}

static void events_forward(const Events &a) {
    const int64_t Co = a.out_channels, Cp = (Co + kEventLanes - 1) / kEventLanes * kEventLanes;
    const Order order(a);
    const int64_t rows = order.rows, wide = block_width(a, rows, Cp);
    float *packed = unset<float>(rows * wide), *bias = scratch<float>(Cp);
    if (a.bias) memcpy(bias, a.bias, sizeof(float) * static_cast<size_t>(Co));
    for (int64_t c0 = 0; c0 < Cp; c0 += wide) {
        int64_t block = wide;
        while (c0 + block > Cp) block /= 2; // cut the rest into powers of two
        for (int64_t b0 = c0; b0 < smaller(c0 + wide, Cp);) {
            const int64_t width = block;
            const bool pairs = a.dtype == 1 && width % (2 * kVec) == 0; // in bf16 weights are rounded, as in every bf16 product
            parallel((rows + kLine - 1) / kLine, a.threads, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) pack_rows(a, order, i * kLine, smaller(kLine, rows - i * kLine), b0, width, pairs, packed);
            });
            const int64_t lines = out_side(a.height, a.stride), columns = out_side(a.width, a.stride);
            parallel(a.images * lines, a.threads, [&](int64_t begin, int64_t end) {
                const bool direct = a.dtype == 0 && b0 + width <= Co; // else through a row of floats
                if (direct && by_kernel_rows(a, width)) {
                    for (int64_t i = begin; i < end; i += kTogether)
                        for (int64_t kh = 0; kh < a.kernel; ++kh)
                            for (int64_t j = i; j < smaller(i + kTogether, end); ++j) {
                                float *out = static_cast<float *>(a.out) + j * columns * Co + b0;
                                const int64_t image = j / lines, row = j % lines;
                                a.value ? forward_wide<false>(a, packed, image, row, {kh, kh + 1}, bias + b0, out, Co, width)
                                        : forward_wide<true>(a, packed, image, row, {kh, kh + 1}, bias + b0, out, Co, width);
                            }
                    return;
                }
                float *line = direct ? nullptr : scratch<float>(columns * width);
                for (int64_t i = begin; i < end; ++i) {
                    const int64_t image = i / lines, row = i % lines;
                    float *out = direct ? static_cast<float *>(a.out) + i * columns * Co + b0 : line;
                    const int64_t pitch = direct ? Co : width;
                    const uint32_t *two = reinterpret_cast<const uint32_t *>(packed);
                    if (pairs)
                        a.value ? forward_wide<false>(a, two, image, row, {0, a.kernel}, bias + b0, out, pitch, width)
                                : forward_wide<true>(a, two, image, row, {0, a.kernel}, bias + b0, out, pitch, width);
                    else
                        a.value ? forward_wide<false>(a, packed, image, row, {0, a.kernel}, bias + b0, out, pitch, width)
                                : forward_wide<true>(a, packed, image, row, {0, a.kernel}, bias + b0, out, pitch, width);
                    if (direct) continue;
                    if (a.dtype == 0)
                        write_row(line, static_cast<float *>(a.out) + i * columns * Co, columns, Co, b0, width);
                    else
                        write_row(line, static_cast<uint16_t *>(a.out) + i * columns * Co, columns, Co, b0, width);
                }
                release(line);
            });
            b0 += width;
            while (block > kEventLanes && b0 + block > Cp) block /= 2;
        }
    }
    release(bias);
    release(packed);
}

// ---- building the lists -------------------------------------------------------------------------------------------------------

template <class E> static void count_typed(const Events &a) {
    const int64_t pixels = a.images * a.height * a.width, Ci = a.in_channels, words = (Ci + 15) / 16;
    const E *x = static_cast<const E *>(a.x);
    const int64_t pieces = smaller(kMaxChunks, pixels);
    int32_t *other = scratch<int32_t>(pieces); // not zero and not one
    parallel(pieces, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) {
            uint32_t odd = 0;
            for (int64_t p = pixels * k / pieces; p < pixels * (k + 1) / pieces; ++p) {
                const E *row = x + p * Ci;
                int32_t n = 0;
                for (int64_t w = 0; w < words; ++w) {
                    uint32_t bits = 0, ones = 0;
                    if (16 * w + 16 <= Ci) {
                        bits = nonzero16(row + 16 * w);
                        ones = ones16(row + 16 * w);
                    } else
                        for (int64_t c = 16 * w; c < Ci; ++c) {
                            bits |= static_cast<uint32_t>(load(row[c]) != 0.0f) << (c - 16 * w);
                            ones |= static_cast<uint32_t>(load(row[c]) == 1.0f) << (c - 16 * w);
                        }
                    odd |= bits ^ ones;
                    a.mask[p * words + w] = static_cast<uint16_t>(bits);
                    n += count_bits(bits);
                }
                a.offsets[p + 1] = n;
            }
            other[k] = odd != 0;
        }
    });
    *a.binary = 1;
    for (int64_t k = 0; k < pieces; ++k)
        if (other[k]) *a.binary = 0;
    release(other);
    a.offsets[0] = 0;
    for (int64_t p = 0; p < pixels; ++p) a.offsets[p + 1] += a.offsets[p];
}

template <class E> static void list_typed(const Events &a) {
    const int64_t pixels = a.images * a.height * a.width, Ci = a.in_channels, words = (Ci + 15) / 16;
    const E *x = static_cast<const E *>(a.x);
    parallel(pixels, a.threads, [&](int64_t begin, int64_t end) {
        const int64_t last = a.offsets[end]; // another thread's events begin there
        for (int64_t p = begin; p < end; ++p) {
            int32_t e = a.offsets[p];
            if (e == a.offsets[p + 1]) continue;
            const E *row = x + p * Ci;
            const int64_t column = p % a.width * Ci;
            for (int64_t w = 0; w < words; ++w) {
                const uint32_t bits = a.mask[p * words + w];
                if (16 * w + 16 <= Ci && e + 16 <= last) { // may write past this pixel's events: the next ones overwrite
                    list16(bits, static_cast<uint16_t>(column + 16 * w), a.index + e);
                    if (a.value) values16(bits, row + 16 * w, a.value + e);
                    e += count_bits(bits);
                    continue;
                }
                for (uint32_t left = bits; left; left &= left - 1) {
                    const int64_t c = 16 * w + lowest_bit(left);
                    if (a.value) a.value[e] = load(row[c]);
                    a.index[e++] = static_cast<uint16_t>(column + c);
                }
            }
        }
    });
}

// From a mask that stands.
static void count_mask(const Events &a) {
    const int64_t pixels = a.images * a.height * a.width, words = (a.in_channels + 15) / 16;
    parallel(pixels, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
            const uint16_t *mask = a.mask + p * words;
            int32_t n = 0;
            int64_t w = 0;
            for (; w + 2 <= words; w += 2) n += count_bits(mask[w] | static_cast<uint32_t>(mask[w + 1]) << 16);
            if (w < words) n += count_bits(mask[w]);
            a.offsets[p + 1] = n;
        }
    });
    a.offsets[0] = 0;
    for (int64_t p = 0; p < pixels; ++p) a.offsets[p + 1] += a.offsets[p];
}

static void events_count(const Events &a) {
    if (!a.x) return count_mask(a);
    if (a.dtype == 2)
        count_typed<uint8_t>(a);
    else
        a.dtype == 0 ? count_typed<F32>(a) : count_typed<BF16>(a);
}
static void events_list(const Events &a) {
    if (a.dtype == 2)
        list_typed<uint8_t>(a);
    else
        a.dtype == 0 ? list_typed<F32>(a) : list_typed<BF16>(a);
}

// ---- bands ----------------------------------------------------------------------------------------------------------------------

// The rows of a padded buffer that K taps of a pixel's column meet: the pixel's own and those before it. A pixel is one vector.
template <int K> struct Lines {
    const float *at[K];
    Lines(const float *buffer, int64_t line) {
        for (int k = 0; k < K; ++k) at[k] = buffer - k * line;
    }
};

// K * K taps of one vector, held in registers: one struct member each, because compilers leave arrays in memory. Tap (kh, kw) lies kh
// lines and kw pixels before the place `at`.
template <int K, int N = K * K> struct Taps {
    static constexpr int kLine = (N - 1) / K, kBack = (N - 1) % K * kVec;
    Taps<K, N - 1> before;
    Vec own;
    SPIKEFED_INLINE void read(const float *from) { // [K * K][kEventLanes]
        before.read(from);
        own = load_vec(from + (N - 1) * kEventLanes);
    }
    SPIKEFED_INLINE void write(float *to) const {
        before.write(to);
        store_vec(to + (N - 1) * kEventLanes, own);
    }
    static SPIKEFED_INLINE Vec met(const Lines<K> &lines, int64_t at) { return load_vec(lines.at[kLine] + at - kBack); }
    SPIKEFED_INLINE void gather(const Lines<K> &lines, int64_t at) { // own += [at]
        before.gather(lines, at);
        own = SPIKEFED_ADD(met(lines, at), own);
    }
    SPIKEFED_INLINE void gather(Vec x, const Lines<K> &lines, int64_t at) { // own += x * [at]
        before.gather(x, lines, at);
        own = SPIKEFED_FMA(x, met(lines, at), own);
    }
    SPIKEFED_INLINE Vec dot(const Lines<K> &lines, int64_t at) const { // sum over taps of own * [at]
        return SPIKEFED_FMA(own, met(lines, at), before.dot(lines, at));
    }
};
template <int K> struct Taps<K, 0> {
    SPIKEFED_INLINE void read(const float *) {}
    SPIKEFED_INLINE void write(float *) const {}
    SPIKEFED_INLINE void gather(const Lines<K> &, int64_t) {}
    SPIKEFED_INLINE void gather(Vec, const Lines<K> &, int64_t) {}
    SPIKEFED_INLINE Vec dot(const Lines<K> &, int64_t) const { return broadcast(0.0f); }
};

struct Band {
    int64_t image, images, row, rows;
};

// How the batch is cut, by rows of the output. It depends on sizes only: not on threads, not on the instruction set.
struct Bands {
    int64_t height, width, pad, line, rows, cuts, group, count; // line: pixels of a padded row; cuts: bands of an image; group: images of a band
    explicit Bands(const Events &a)
        : height(out_side(a.height, a.stride)), width(out_side(a.width, a.stride)), pad(a.kernel / 2), line(width + 2 * pad) {
        const int64_t room = kBandPixels / line;
        rows = height + 2 * pad <= room ? height : smaller(height, larger(1, room - 2 * pad));
        cuts = (height + rows - 1) / rows;
        rows = (height + cuts - 1) / cuts;
        cuts = (height + rows - 1) / rows;
        group = cuts > 1 ? 1 : larger(1, room / (height + 2 * pad));
        count = (a.images + group - 1) / group * cuts;
    }
    Band at(const Events &a, int64_t k) const {
        const int64_t image = k / cuts * group, row = k % cuts * rows;
        return Band{image, smaller(group, a.images - image), row, smaller(rows, height - row)};
    }
    int64_t pixels() const { return group * (rows + 2 * pad) * line; } // of the padded buffer
    // Where the event of image i, row h of the band, column w stands: tap (0, 0) meets this pixel, tap (kh, kw) lies before it.
    int64_t position(int64_t i, int64_t h, int64_t w) const { return (i * (rows + 2 * pad) + h + 2 * pad) * line + w + 2 * pad; }
    // The same with a stride of 2, of row h and column w of the input: the first tap of their parity meets this pixel.
    int64_t halved(int64_t i, int64_t h, int64_t w) const {
        const int64_t down = pad ? h % 2 : 0, right = pad ? w % 2 : 0;
        return (i * (rows + 2 * pad) + h / 2 + down + pad) * line + w / 2 + right + pad;
    }
};

// As events_band with a stride of 2.
static void band_halved(const Events &a) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels;
    const Bands bands(a);
    parallel(bands.count, a.threads, [&](int64_t begin, int64_t end) {
        int32_t *next = scratch<int32_t>(4 * Ci + 1);
        for (int64_t k = begin; k < end; ++k) {
            const Band band = bands.at(a, k);
            const int64_t top = 2 * band.row, rows = smaller(2 * band.rows, H - top); // of the input; contiguous in the list
            const int32_t *at = a.offsets + (band.image * H + top) * W;
            memset(next, 0, sizeof(int32_t) * static_cast<size_t>(4 * Ci + 1));
            for (int64_t row = 0; row < band.images * rows; ++row)
                for (int64_t w = 0; w < W; ++w)
                    for (int32_t e = at[row * W + w]; e < at[row * W + w + 1]; ++e)
                        ++next[4 * (a.index[e] - w * Ci) + row % rows % 2 * 2 + w % 2 + 1];
            int32_t *start = a.start + k * 4 * Ci;
            next[0] = at[0];
            for (int64_t c = 0; c < 4 * Ci; ++c) start[c] = next[c], next[c + 1] += next[c];
            for (int64_t row = 0; row < band.images * rows; ++row)
                for (int64_t w = 0; w < W; ++w) {
                    const int64_t h = row % rows;
                    const uint16_t where = static_cast<uint16_t>(bands.halved(row / rows, h, w));
                    for (int32_t e = at[row * W + w]; e < at[row * W + w + 1]; ++e) {
                        const int32_t to = next[4 * (a.index[e] - w * Ci) + h % 2 * 2 + w % 2]++;
                        a.position[to] = where;
                        if (a.value) a.banded[to] = a.value[e];
                    }
                }
        }
        release(next);
    });
    a.start[bands.count * 4 * Ci] = static_cast<int32_t>(a.events);
}

// Where the channels and the columns of a row's events stand in their entries: Ci is 1 << shift.
struct Digits {
    int64_t shift = -1; // -1: no power of two
    uint32_t mask = 0;
    explicit Digits(int64_t channels) {
        if (channels & (channels - 1)) return;
        while (int64_t{1} << (shift + 1) <= channels) ++shift;
        mask = static_cast<uint32_t>(channels - 1);
    }
};

// Calls body(event, channel, column) for the events of an image row, in order. `at`: where the events of its pixels begin.
template <class F> static SPIKEFED_INLINE void each_event(const Events &a, const Digits &digits, const int32_t *at, const F &body) {
    const int64_t W = a.width, Ci = a.in_channels;
    if (digits.shift >= 0) { // one loop for a row: a loop for each of its pixels ends at another length every time
        for (int32_t e = at[0]; e < at[W]; ++e) body(e, a.index[e] & digits.mask, a.index[e] >> digits.shift);
        return;
    }
    for (int64_t w = 0; w < W; ++w)
        for (int32_t e = at[w]; e < at[w + 1]; ++e) body(e, a.index[e] - w * Ci, w);
}

// Regroups the list: bands in order, channels in order inside, pixels in order inside (so the order of sums is fixed).
static void events_band(const Events &a) {
    if (a.stride == 2) return band_halved(a);
    const int64_t W = a.width, Ci = a.in_channels;
    const Bands bands(a);
    const Digits digits(Ci);
    parallel(bands.count, a.threads, [&](int64_t begin, int64_t end) {
        int32_t *next = scratch<int32_t>(Ci + 1);
        for (int64_t k = begin; k < end; ++k) {
            const Band band = bands.at(a, k);
            const int64_t first = (band.image * a.height + band.row) * W; // the band's pixels are contiguous
            const int32_t *at = a.offsets + first;
            memset(next, 0, sizeof(int32_t) * static_cast<size_t>(Ci + 1));
            for (int64_t row = 0; row < band.images * band.rows; ++row)
                each_event(a, digits, at + row * W, [&](int32_t, int64_t c, int64_t) { ++next[c + 1]; });
            int32_t *start = a.start + k * Ci;
            next[0] = at[0];
            for (int64_t c = 0; c < Ci; ++c) start[c] = next[c], next[c + 1] += next[c];
            for (int64_t row = 0; row < band.images * band.rows; ++row) {
                const int64_t where = bands.position(row / band.rows, row % band.rows, 0);
                if (a.value)
                    each_event(a, digits, at + row * W, [&](int32_t e, int64_t c, int64_t w) {
                        const int32_t to = next[c]++;
                        a.position[to] = static_cast<uint16_t>(where + w);
                        a.banded[to] = a.value[e];
                    });
                else
                    each_event(a, digits, at + row * W, [&](int32_t, int64_t c, int64_t w) { a.position[next[c]++] = static_cast<uint16_t>(where + w); });
            }
        }
        release(next);
    });
    a.start[bands.count * Ci] = static_cast<int32_t>(a.events);
}
static int64_t events_bands(const Events &a) { return Bands(a).count; }

// ---- weight gradient ----------------------------------------------------------------------------------------------------------

static constexpr int64_t kPixelsAhead = 16; // by which the gradient is asked for ahead of its use

// Blocks [first, first + blocks) of the band's output gradient, each as a padded buffer of its own: planes of one vector a pixel, so
// that what a pass over the events meets is half as large in the first-level cache where a vector has half the lanes.
template <class E> static void pad_blocks(const Events &a, const Bands &bands, const Band &band, int64_t first, int64_t blocks, float *to) {
    const int64_t W = bands.width, H = bands.height, Co = a.out_channels, pad = bands.pad, plane = bands.pixels() * kVec;
    const int64_t planes = kEventLanes / kVec, size = planes * plane;
    for (int64_t i = 0; i < band.images; ++i)
        for (int64_t j = 0; j < bands.rows + 2 * pad; ++j) {
            const int64_t h = band.row - pad + j, at = ((i * (bands.rows + 2 * pad) + j) * bands.line + pad) * kVec;
            if (h < 0 || h >= H) {
                for (int64_t b = 0; b < blocks * planes; ++b) memset(to + b * plane + at, 0, sizeof(float) * static_cast<size_t>(W * kVec));
                continue;
            }
            for (int64_t w = 0; w < W; ++w) {
                const E *from = static_cast<const E *>(a.go) + (((band.image + i) * H + h) * W + w) * Co;
                for (int64_t b = 0; b < blocks; ++b) {
                    const int64_t c0 = (first + b) * kEventLanes, n = smaller(kEventLanes, Co - c0);
                    const E *__restrict f = from + c0;
                    float *__restrict t = to + b * size + at + w * kVec;
                    SPIKEFED_PREFETCH(f + kPixelsAhead * Co, 0);
                    if (n == kEventLanes)
                        for (int64_t c = 0; c < kEventLanes; c += kVec) store_vec(t + c / kVec * plane, load_some(f + c, kVec));
                    else
                        for (int64_t c = 0; c < n; ++c) t[c / kVec * plane + c % kVec] = load(f[c]);
                }
            }
        }
}

// The output gradient of a band, kFewBlocks blocks at a time (they stay in the second-level cache); edges and unused lanes are 0.
struct Padded {
    const Events &a;
    const Bands &bands;
    int64_t blocks, size;
    float *memory;
    Padded(const Events &events, const Bands &cut)
        : a(events), bands(cut), blocks((a.out_channels + kEventLanes - 1) / kEventLanes), size(cut.pixels() * kEventLanes),
          memory(scratch<float>(smaller(blocks, kFewBlocks) * size)) {}
    ~Padded() { release(memory); }
    // Calls body(block, buffer) for the blocks [from, to) of output channels, in order.
    template <class F> void each(const Band &band, int64_t from, int64_t to, const F &body) {
        for (int64_t first = from; first < to; first += kFewBlocks) {
            const int64_t n = smaller(kFewBlocks, to - first);
            const bool ragged = first + n == blocks && a.out_channels % kEventLanes != 0 && blocks > 1;
            if (ragged) memset(memory + (n - 1) * size, 0, sizeof(float) * static_cast<size_t>(size)); // lanes of another block
            a.dtype == 0 ? pad_blocks<F32>(a, bands, band, first, n, memory) : pad_blocks<BF16>(a, bands, band, first, n, memory);
            for (int64_t b = 0; b < n; ++b) body(first + b, memory + b * size);
        }
    }
};

// What the next band reads, asked for bit by bit while this one is worked on: padding would wait for memory, which has nothing to do now.
struct Ahead {
    const char *at;
    int64_t left, part; // bytes
    Ahead(const Events &a, const Bands &bands, int64_t next, int64_t last, int64_t calls) : at(nullptr), left(0), part(0) {
        if (next >= last) return;
        const Band band = bands.at(a, next);
        const int64_t row = bands.width * a.out_channels * (a.dtype == 0 ? 4 : 2);
        at = static_cast<const char *>(a.go) + (band.image * bands.height + band.row) * row;
        left = band.images * band.rows * row;
        part = left / larger(1, calls) + 1;
    }
    SPIKEFED_INLINE void some() {
        for (int64_t i = 0; i < part && left > 0; i += 64, at += 64, left -= 64) SPIKEFED_PREFETCH_FAR(at);
    }
};

template <int K>
SPIKEFED_APART static void weight_channel(const uint16_t *index, const float *value, int64_t n, const float *go, int64_t line, float *sums) {
    const Lines<K> lines(go, line);
    Taps<K> taps;
    taps.read(sums);
    if (value)
        for (int64_t e = 0; e < n; ++e) taps.gather(broadcast(value[e]), lines, index[e] * int64_t{kVec});
    else
        for (int64_t e = 0; e < n; ++e) taps.gather(lines, index[e] * int64_t{kVec});
    taps.write(sums);
}

// Taps of a parity: DOWN of its rows, RIGHT of its columns, whose sums lie `row` and `column` floats apart in memory.
template <int DOWN, int RIGHT>
static void weight_parity(const uint16_t *index, const float *value, int64_t n, const float *go, int64_t line, float *sums, int64_t row, int64_t column) {
    Vec a = load_vec(sums), b = a, c = a, d = a;
    if (RIGHT > 1) b = load_vec(sums + column);
    if (DOWN > 1) c = load_vec(sums + row);
    if (DOWN > 1 && RIGHT > 1) d = load_vec(sums + row + column);
    for (int64_t e = 0; e < n; ++e) {
        const Vec x = broadcast(value ? value[e] : 1.0f);
        const float *at = go + index[e] * kVec;
        a = SPIKEFED_FMA(x, load_vec(at), a);
        if (RIGHT > 1) b = SPIKEFED_FMA(x, load_vec(at - kVec), b);
        if (DOWN > 1) c = SPIKEFED_FMA(x, load_vec(at - line), c);
        if (DOWN > 1 && RIGHT > 1) d = SPIKEFED_FMA(x, load_vec(at - line - kVec), d);
    }
    store_vec(sums, a);
    if (RIGHT > 1) store_vec(sums + column, b);
    if (DOWN > 1) store_vec(sums + row, c);
    if (DOWN > 1 && RIGHT > 1) store_vec(sums + row + column, d);
}

// One input channel with a stride of 2: `start` of its four parities, `sums` [K * K][kEventLanes].
template <int K>
static void weight_halved(const Events &a, const int32_t *start, const float *go, int64_t line, float *sums) {
    for (int parity = 0; parity < 4; ++parity) {
        const int64_t n = start[parity + 1] - start[parity];
        const uint16_t *index = a.position + start[parity];
        const float *value = a.banded ? a.banded + start[parity] : nullptr;
        if (n == 0 || (K == 1 && parity != 0)) continue; // a kernel of 1 meets even rows and columns alone
        const int64_t down = parity / 2, right = parity % 2;
        float *first = sums + ((K == 1 || down ? 0 : 1) * K + (K == 1 || right ? 0 : 1)) * kEventLanes; // even: the middle tap
        const int64_t row = 2 * K * kEventLanes, column = 2 * kEventLanes;
        if (down && right)
            weight_parity<2, 2>(index, value, n, go, line, first, row, column);
        else if (down)
            weight_parity<2, 1>(index, value, n, go, line, first, row, column);
        else if (right)
            weight_parity<1, 2>(index, value, n, go, line, first, row, column);
        else
            weight_parity<1, 1>(index, value, n, go, line, first, row, column);
    }
}

// Shared out by blocks of output channels, and in few parts of the batch where there are few blocks.
template <int K> static void weight_grad_sized(const Events &a) {
    const int64_t Ci = a.in_channels, blocks = (a.out_channels + kEventLanes - 1) / kEventLanes, table = blocks * Ci * K * K * kEventLanes;
    const Bands bands(a);
    const int64_t parts = larger(1, smaller(bands.count, kPieces / blocks));
    float *sums = parts > 1 ? scratch<float>(parts * table) : a.weight;
    if (parts == 1) memset(sums, 0, sizeof(float) * static_cast<size_t>(table));
    parallel(parts * blocks, a.threads, [&](int64_t begin, int64_t end) {
        Padded go(a, bands);
        for (int64_t part = begin / blocks; part * blocks < end; ++part) {
            const int64_t from = larger(begin - part * blocks, 0), to = smaller(end - part * blocks, blocks);
            for (int64_t k = bands.count * part / parts; k < bands.count * (part + 1) / parts; ++k) {
                const int64_t groups = a.stride == 2 ? 4 * Ci : Ci;
                const int32_t *start = a.start + k * groups;
                if (start[0] == start[groups]) continue;
                const bool whole = from == 0 && to == blocks;
                Ahead next(a, bands, k + 1, whole ? bands.count * (part + 1) / parts : 0, blocks * kEventLanes / kVec * Ci);
                go.each(bands.at(a, k), from, to, [&](int64_t b, const float *buffer) {
                    float *rows = sums + part * table + b * Ci * K * K * kEventLanes;
                    for (int64_t v = 0; v < kEventLanes; v += kVec, buffer += bands.pixels() * kVec)
                        for (int64_t c = 0; c < Ci; ++c) {
                            next.some();
                            if (a.stride == 2)
                                weight_halved<K>(a, start + 4 * c, buffer, bands.line * kVec, rows + c * K * K * kEventLanes + v);
                            else if (start[c] != start[c + 1])
                                weight_channel<K>(a.position + start[c], a.banded ? a.banded + start[c] : nullptr, start[c + 1] - start[c], buffer,
                                                  bands.line * kVec, rows + c * K * K * kEventLanes + v);
                        }
                });
            }
        }
    });
    if (parts == 1) return;
    parallel(table / kEventLanes, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin * kEventLanes; i < end * kEventLanes; ++i) {
            float s = 0;
            for (int64_t part = 0; part < parts; ++part) s += sums[part * table + i];
            a.weight[i] = s;
        }
    });
    release(sums);
}

// ---- weight gradient of a linear layer: a 1x1 convolution of many channels on maps of one pixel ---------------------------------

// Rows [first, first + n) of a band, N * 16 outputs: `go` [rows of the band][N * 16] is added to `sums` [n][N * 16].
template <int N> static void rows_band(const Events &a, const Order &order, int64_t band, int64_t first, int64_t n, const float *go, float *sums) {
    constexpr int64_t width = N * kEventLanes;
    constexpr int K = width / kVec;
    const int32_t *start = a.start + band * a.in_channels;
    for (int64_t i = 0; i < n; ++i, sums += width) {
        const int64_t c = order(first + i);
        Vec acc[K];
        for (int v = 0; v < K; ++v) acc[v] = load_vec(sums + v * kVec);
        for (int32_t e = start[c]; e < start[c + 1]; ++e) {
            const float *at = go + a.position[e] * width;
            const Vec x = broadcast(a.banded ? a.banded[e] : 1.0f);
            for (int v = 0; v < K; ++v) acc[v] = SPIKEFED_FMA(x, load_vec(at + v * kVec), acc[v]);
        }
        for (int v = 0; v < K; ++v) store_vec(sums + v * kVec, acc[v]);
    }
}

template <class E> static void rows_typed(const Events &a) {
    const int64_t Co = a.out_channels, padded = (Co + kEventLanes - 1) / kEventLanes * kEventLanes, widest = 8 * kVec;
    const Bands bands(a);
    const Order order(a);
    parallel((order.rows + kLine - 1) / kLine, a.threads, [&](int64_t begin, int64_t end) {
        float *go = unset<float>(bands.group * widest), *sums = unset<float>(kLine * widest);
        for (int64_t c0 = 0, width = widest; c0 < padded; c0 += width) {
            while (width > kEventLanes && c0 + width > padded) width /= 2;
            for (int64_t k = 0; k < bands.count; ++k) {
                const Band band = bands.at(a, k);
                for (int64_t r = 0; r < band.images; ++r) {
                    const E *from = static_cast<const E *>(a.go) + (band.image + r) * Co + c0;
                    for (int64_t j = 0; j < width; ++j) go[r * width + j] = c0 + j < Co ? load(from[j]) : 0.0f;
                }
                for (int64_t i = begin; i < end; ++i) {
                    const int64_t first = i * kLine, n = smaller(kLine, order.rows - first);
                    if (k == 0)
                        memset(sums, 0, sizeof(float) * static_cast<size_t>(kLine * width));
                    else
                        read_turned(a.weight, order.rows, Co, first, n, c0, width, sums); // of the bands before
                    switch (width / kEventLanes) {
                    case 8: rows_band<8>(a, order, k, first, n, go, sums); break;
                    case 4: rows_band<4>(a, order, k, first, n, go, sums); break;
                    case 2: rows_band<2>(a, order, k, first, n, go, sums); break;
                    default: rows_band<1>(a, order, k, first, n, go, sums);
                    }
                    write_turned(sums, a.weight, order.rows, Co, first, n, c0, width);
                }
            }
        }
        release(sums);
        release(go);
    });
}

static void events_rows_grad(const Events &a) { a.dtype == 0 ? rows_typed<F32>(a) : rows_typed<BF16>(a); }

// ---- input gradient, only where the list says it is needed --------------------------------------------------------------------

// Adds to sums[e] the product of one input channel's weights with the gradient around event e. Four at a time: their lanes are
// summed together.
template <int K>
SPIKEFED_APART static void input_channel(const uint16_t *index, int64_t n, const float *go, int64_t line, const float *weight, float *sums) {
    const Lines<K> lines(go, line);
    Taps<K> taps;
    taps.read(weight);
    const auto dot = [&](int64_t e) SPIKEFED_LAMBDA { return taps.dot(lines, index[e] * int64_t{kVec}); };
    int64_t e = 0;
    for (; e + 4 <= n; e += 4) add_lanes4(dot(e), dot(e + 1), dot(e + 2), dot(e + 3), sums + e);
    for (; e < n; ++e) sums[e] += sum_lanes(dot(e));
}

template <int K, class E> static void input_grad_sized(const Events &a) {
    const int64_t Ci = a.in_channels, H = a.height, W = a.width;
    const Bands bands(a);
    E *out = static_cast<E *>(a.out);
    parallel(bands.count, a.threads, [&](int64_t begin, int64_t end) {
        Padded go(a, bands);
        int32_t *pixel = scratch<int32_t>(bands.pixels()); // of the map, by position
        float *sums = scratch<float>(bands.group * bands.rows * W * Ci);
        for (int64_t k = begin; k < end; ++k) {
            const Band band = bands.at(a, k);
            const int32_t *start = a.start + k * Ci;
            for (int64_t i = 0; i < band.images; ++i) {
                const int64_t first = ((band.image + i) * H + band.row) * W;
                memset(out + first * Ci, 0, sizeof(E) * static_cast<size_t>(band.rows * W * Ci));
                for (int64_t p = 0; p < band.rows * W; ++p) pixel[bands.position(i, p / W, p % W)] = static_cast<int32_t>(first + p);
            }
            if (start[0] == start[Ci]) continue;
            memset(sums, 0, sizeof(float) * static_cast<size_t>(start[Ci] - start[0]));
            Ahead next(a, bands, k + 1, end, go.blocks * kEventLanes / kVec * Ci);
            go.each(band, 0, go.blocks, [&](int64_t b, const float *buffer) {
                for (int64_t v = 0; v < kEventLanes; v += kVec, buffer += bands.pixels() * kVec)
                    for (int64_t c = 0; c < Ci; ++c) {
                        next.some();
                        input_channel<K>(a.position + start[c], start[c + 1] - start[c], buffer, bands.line * kVec,
                                         a.weight + (b * Ci + c) * K * K * kEventLanes + v, sums + start[c] - start[0]);
                    }
            });
            for (int64_t c = 0; c < Ci; ++c)
                for (int32_t e = start[c]; e < start[c + 1]; ++e)
                    store(out + static_cast<int64_t>(pixel[a.position[e]]) * Ci + c, sums[e - start[0]]);
        }
        release(sums);
        release(pixel);
    });
}

static void events_weight_grad(const Events &a) { a.kernel == 3 ? weight_grad_sized<3>(a) : weight_grad_sized<1>(a); }
static void events_input_grad(const Events &a) {
    if (a.dtype == 0)
        a.kernel == 3 ? input_grad_sized<3, F32>(a) : input_grad_sized<1, F32>(a);
    else
        a.kernel == 3 ? input_grad_sized<3, BF16>(a) : input_grad_sized<1, BF16>(a);
}
