// Convolution over the non-zeros of its input ("events"), stride 1, same padding, odd square kernel; float32 sums.
// Included once per instruction set (see norm_lif.inl for the rules). SPIKEFED_FMA(a, b, c) = a * b + c on Vec.
//
// Forward: one output pixel at a time, its output channels in registers. The events under one row of the kernel are contiguous in
// the list (pixels of an image row follow each other), so a pixel needs K loops, not K * K. Weights are cut into blocks of output
// channels that stay in the second-level cache.
//
// Weight gradient: events are regrouped by input channel over a few images, so that all K * K taps of one input channel and a
// block of output channels stay in registers while its events stream by; the gradient of the output lies in a padded copy, so
// that there are no edges.

// One image row: `out` has NV * 16 channels every `pitch` floats. BINARY: every event is 1.
template <int NV, bool BINARY>
static void forward_row(const Events &a, const float *weight, int64_t image, int64_t row, const float *bias, float *out, int64_t pitch) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, K = a.kernel, pad = K / 2, block = NV * kEventLanes;
    for (int64_t ow = 0; ow < W; ++ow) {
        Vec acc[NV * kEventLanes / kVec];
        for (int v = 0; v < NV * kEventLanes / kVec; ++v) acc[v] = load_vec(bias + v * kVec);
        for (int64_t kh = 0; kh < K; ++kh) {
            const int64_t ih = row + kh - pad;
            if (ih < 0 || ih >= H) continue;
            const int32_t *at = a.offsets + (image * H + ih) * W;
            const int64_t first = larger(ow - pad, 0), last = smaller(ow + K - pad, W);
            // weight row of entry e: tap column (column - ow + pad), channel: e - (ow - pad) * Ci
            const float *base = weight + (kh * K * Ci - (ow - pad) * Ci) * block;
            for (int32_t e = at[first]; e < at[last]; ++e) {
                const float *w = base + static_cast<int64_t>(a.index[e]) * block;
                if (BINARY) {
                    for (int v = 0; v < NV * kEventLanes / kVec; ++v) acc[v] = SPIKEFED_ADD(load_vec(w + v * kVec), acc[v]);
                } else {
                    const Vec x = broadcast(a.value[e]);
                    for (int v = 0; v < NV * kEventLanes / kVec; ++v) acc[v] = SPIKEFED_FMA(x, load_vec(w + v * kVec), acc[v]);
                }
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

// Weights [Ci][K*K][Cp] are packed into blocks [K*K][Ci][block]; the last block may be narrower.
static int64_t block_width(int64_t rows, int64_t Cp) {
    int64_t block = kMaxBlock;
    while (block > kEventLanes && (block > Cp || rows * block * 4 > (1 << 20) + (1 << 18))) block /= 2;
    return block;
}

template <bool BINARY>
static void forward_wide(const Events &a, const float *w, int64_t image, int64_t row, const float *bias, float *out, int64_t pitch, int64_t width) {
    switch (width) {
    case 256: return forward_row<16, BINARY>(a, w, image, row, bias, out, pitch);
    case 128: return forward_row<8, BINARY>(a, w, image, row, bias, out, pitch);
    case 64: return forward_row<4, BINARY>(a, w, image, row, bias, out, pitch);
    case 32: return forward_row<2, BINARY>(a, w, image, row, bias, out, pitch);
    default: return forward_row<1, BINARY>(a, w, image, row, bias, out, pitch);
    }
}

static void events_forward(const Events &a) {
    const int64_t Co = a.out_channels, Cp = (Co + kEventLanes - 1) / kEventLanes * kEventLanes;
    const int64_t rows = a.kernel * a.kernel * a.in_channels, wide = block_width(rows, Cp);
    float *packed = scratch<float>(rows * Cp), *bias = scratch<float>(Cp);
    if (a.bias) memcpy(bias, a.bias, sizeof(float) * static_cast<size_t>(Co));
    for (int64_t c0 = 0; c0 < Cp; c0 += wide) {
        int64_t block = wide;
        while (c0 + block > Cp) block /= 2; // cut the rest into powers of two
        for (int64_t b0 = c0; b0 < smaller(c0 + wide, Cp);) {
            const int64_t width = block;
            parallel(rows, a.threads, [&](int64_t begin, int64_t end) {
                for (int64_t r = begin; r < end; ++r) { // row (tap, channel) of the packed block
                    const int64_t tap = r / a.in_channels, c = r % a.in_channels;
                    const float *from = a.weight + (c * a.kernel * a.kernel + tap) * Cp + b0;
                    memcpy(packed + r * width, from, sizeof(float) * static_cast<size_t>(width));
                }
            });
            parallel(a.images * a.height, a.threads, [&](int64_t begin, int64_t end) {
                const bool direct = a.dtype == 0 && b0 + width <= Co; // else through a row of floats
                float *line = direct ? nullptr : scratch<float>(a.width * width);
                for (int64_t i = begin; i < end; ++i) {
                    const int64_t image = i / a.height, row = i % a.height;
                    float *out = direct ? static_cast<float *>(a.out) + i * a.width * Co + b0 : line;
                    const int64_t pitch = direct ? Co : width;
                    a.value ? forward_wide<false>(a, packed, image, row, bias + b0, out, pitch, width)
                            : forward_wide<true>(a, packed, image, row, bias + b0, out, pitch, width);
                    if (direct) continue;
                    if (a.dtype == 0)
                        write_row(line, static_cast<float *>(a.out) + i * a.width * Co, a.width, Co, b0, width);
                    else
                        write_row(line, static_cast<uint16_t *>(a.out) + i * a.width * Co, a.width, Co, b0, width);
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
                    n += __builtin_popcount(bits);
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
        for (int64_t p = begin; p < end; ++p) {
            int32_t e = a.offsets[p];
            if (e == a.offsets[p + 1]) continue;
            const E *row = x + p * Ci;
            const int64_t column = p % a.width * Ci;
            for (int64_t w = 0; w < words; ++w) {
                uint32_t bits = a.mask[p * words + w];
                while (bits) {
                    const int64_t c = 16 * w + __builtin_ctz(bits);
                    bits &= bits - 1;
                    if (a.value) a.value[e] = load(row[c]);
                    a.index[e++] = static_cast<uint16_t>(column + c);
                }
            }
        }
    });
}

static void events_count(const Events &a) {
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

// ---- weight gradient ----------------------------------------------------------------------------------------------------------

// Sums of one input channel over a group's events: K * K taps x NV vectors, in registers.
template <int K, int NV, bool BINARY>
static void weight_row(const int32_t *position, const float *value, int64_t n, const float *go, int64_t pitch, float *dw, int64_t tap_stride) {
    Vec acc[K * K * NV];
    for (int i = 0; i < K * K; ++i)
        for (int v = 0; v < NV; ++v) acc[i * NV + v] = load_vec(dw + i * tap_stride + v * kVec);
    for (int64_t e = 0; e < n; ++e) {
        const float *g = go + position[e];
        const Vec x = broadcast(BINARY ? 1.0f : value[e]);
        for (int kh = 0; kh < K; ++kh)
            for (int kw = 0; kw < K; ++kw)
                for (int v = 0; v < NV; ++v) {
                    Vec &sum = acc[(kh * K + kw) * NV + v];
                    const Vec up = load_vec(g - kh * pitch - kw * NV * kVec + v * kVec);
                    sum = BINARY ? SPIKEFED_ADD(up, sum) : SPIKEFED_FMA(x, up, sum);
                }
    }
    for (int i = 0; i < K * K; ++i)
        for (int v = 0; v < NV; ++v) store_vec(dw + i * tap_stride + v * kVec, acc[i * NV + v]);
}

// A piece of the batch small enough that the padded gradient of one block stays in the first-level cache: some images, or some
// rows of one image.
struct Band {
    int64_t image, images, row, rows;
};

// Copies a block of output channels of a band into a zero-padded buffer [images][rows + 2 pad][W + 2 pad][block].
template <class E> static void pad_block(const Events &a, const Band &band, int64_t c0, int64_t block, int64_t pad, float *to) {
    const int64_t H = a.height, W = a.width, Co = a.out_channels, n = smaller(block, Co - c0), pitch = (W + 2 * pad) * block;
    for (int64_t i = 0; i < band.images; ++i)
        for (int64_t j = 0; j < band.rows + 2 * pad; ++j) {
            const int64_t h = band.row - pad + j;
            float *line = to + (i * (band.rows + 2 * pad) + j) * pitch + pad * block;
            if (h < 0 || h >= H) {
                memset(line, 0, sizeof(float) * static_cast<size_t>(W * block));
                continue;
            }
            const E *from = static_cast<const E *>(a.go) + ((band.image + i) * H + h) * W * Co + c0;
            for (int64_t w = 0; w < W; ++w) {
                const E *__restrict f = from + w * Co;
                float *__restrict t = line + w * block;
                if (n == block)
                    for (int64_t c = 0; c < block; ++c) t[c] = load(f[c]);
                else
                    for (int64_t c = 0; c < n; ++c) t[c] = load(f[c]);
            }
        }
}

// How the batch is cut into bands.
struct Bands {
    int64_t rows, cuts, group, count;
    explicit Bands(const Events &a) {
        rows = smaller(a.height, larger(1, kBandPixels / a.width));
        cuts = (a.height + rows - 1) / rows; // of an image
        group = cuts > 1 ? 1 : larger(1, kBandPixels / (a.height * a.width));
        count = (a.images + group - 1) / group * cuts;
    }
    Band at(const Events &a, int64_t k) const {
        const int64_t image = k / cuts * group, row = k % cuts * rows;
        return Band{image, smaller(group, a.images - image), row, smaller(rows, a.height - row)};
    }
};

// A band's events grouped by input channel: events of channel c are [start[c], start[c + 1]).
struct Grouped {
    int32_t *start, *next, *position, *target; // position: float offset into the padded buffer; target: element of the map
    float *value;
    int64_t room;
    explicit Grouped(int64_t Ci)
        : start(scratch<int32_t>(Ci + 1)), next(scratch<int32_t>(Ci + 1)), position(nullptr), target(nullptr), value(nullptr), room(0) {}
    ~Grouped() { release(start), release(next), release(position), release(target), release(value); }
};

// Stable, so that the order of sums is fixed. Tap (kh, kw) of an event meets output pixel (h - kh + pad, w - kw + pad); the buffer
// begins pad before the band. Returns the number of events.
static int64_t regroup(const Events &a, const Band &band, int64_t pad, int64_t block, Grouped &g) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, pitch = (W + 2 * pad) * block, padded = (band.rows + 2 * pad) * pitch;
    memset(g.start, 0, sizeof(int32_t) * static_cast<size_t>(Ci + 1));
    int64_t total = 0;
    for (int64_t i = 0; i < band.images; ++i)
        for (int64_t h = 0; h < band.rows; ++h) {
            const int32_t *at = a.offsets + ((band.image + i) * H + band.row + h) * W;
            total += at[W] - at[0];
            for (int64_t w = 0; w < W; ++w)
                for (int32_t e = at[w]; e < at[w + 1]; ++e) ++g.start[a.index[e] - w * Ci + 1];
        }
    if (total > g.room) {
        release(g.position), release(g.target), release(g.value);
        g.room = total + total / 4;
        g.position = scratch<int32_t>(g.room), g.target = scratch<int32_t>(g.room), g.value = scratch<float>(g.room);
    }
    for (int64_t c = 0; c < Ci; ++c) g.start[c + 1] += g.start[c];
    memcpy(g.next, g.start, sizeof(int32_t) * static_cast<size_t>(Ci));
    for (int64_t i = 0; i < band.images; ++i)
        for (int64_t h = 0; h < band.rows; ++h) {
            const int64_t row = (band.image + i) * H + band.row + h;
            const int32_t *at = a.offsets + row * W;
            for (int64_t w = 0; w < W; ++w) {
                const int32_t where = static_cast<int32_t>(i * padded + (h + 2 * pad) * pitch + (w + 2 * pad) * block);
                for (int32_t e = at[w]; e < at[w + 1]; ++e) {
                    const int32_t to = g.next[a.index[e] - w * Ci]++;
                    g.position[to] = where;
                    g.target[to] = static_cast<int32_t>(row * W * Ci + a.index[e]);
                    if (a.value) g.value[to] = a.value[e];
                }
            }
        }
    return total;
}

template <int K, int NV> static void weight_grad_sized(const Events &a) {
    const int64_t W = a.width, Ci = a.in_channels, pad = K / 2, block = NV * kVec, pitch = (W + 2 * pad) * block;
    const int64_t Cp = (a.out_channels + kEventLanes - 1) / kEventLanes * kEventLanes, table = K * K * Ci * Cp;
    const Bands bands(a);
    const int64_t parts = smaller(bands.count, kParts);
    float *sums = parts > 1 ? scratch<float>(parts * table) : a.weight;
    if (parts == 1) memset(sums, 0, sizeof(float) * static_cast<size_t>(table));
    parallel(parts, a.threads, [&](int64_t begin, int64_t end) {
        float *go = scratch<float>(bands.group * (bands.rows + 2 * pad) * pitch);
        Grouped g(Ci);
        for (int64_t part = begin; part < end; ++part)
            for (int64_t k = bands.count * part / parts; k < bands.count * (part + 1) / parts; ++k) {
                const Band band = bands.at(a, k);
                if (regroup(a, band, pad, block, g) == 0) continue;
                for (int64_t c0 = 0; c0 < Cp; c0 += block) {
                    a.dtype == 0 ? pad_block<F32>(a, band, c0, block, pad, go) : pad_block<BF16>(a, band, c0, block, pad, go);
                    for (int64_t c = 0; c < Ci; ++c) {
                        const int64_t first = g.start[c], n = g.start[c + 1] - first;
                        float *dw = sums + part * table + c * K * K * Cp + c0;
                        if (n == 0) continue;
                        a.value ? weight_row<K, NV, false>(g.position + first, g.value + first, n, go, pitch, dw, Cp)
                                : weight_row<K, NV, true>(g.position + first, nullptr, n, go, pitch, dw, Cp);
                    }
                }
            }
        release(go);
    });
    if (parts > 1) {
        parallel(table / kEventLanes, a.threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin * kEventLanes; i < end * kEventLanes; ++i) {
                float s = 0;
                for (int64_t part = 0; part < parts; ++part) s += sums[part * table + i];
                a.weight[i] = s;
            }
        });
        release(sums);
    }
}

// ---- input gradient, only where the list says it is needed --------------------------------------------------------------------

// Adds to dx[target] the product of one input channel's weights (all taps, NV vectors, in registers) with the gradient around it.
template <int K, int NV>
static void input_row(const int32_t *position, const int32_t *target, int64_t n, const float *go, int64_t pitch, const float *weight,
                      int64_t tap_stride, float *dx) {
    Vec w[K * K * NV];
    for (int i = 0; i < K * K; ++i)
        for (int v = 0; v < NV; ++v) w[i * NV + v] = load_vec(weight + i * tap_stride + v * kVec);
    for (int64_t e = 0; e < n; ++e) {
        const float *g = go + position[e];
        Vec even = broadcast(0.0f), odd = even;
        for (int kh = 0; kh < K; ++kh)
            for (int kw = 0; kw < K; ++kw)
                for (int v = 0; v < NV; ++v) {
                    const int i = (kh * K + kw) * NV + v;
                    Vec &sum = i % 2 ? odd : even;
                    sum = SPIKEFED_FMA(w[i], load_vec(g - kh * pitch - kw * NV * kVec + v * kVec), sum);
                }
        dx[target[e]] += sum_lanes(SPIKEFED_ADD(even, odd));
    }
}

template <int K, int NV> static void input_grad_sized(const Events &a) {
    const int64_t W = a.width, Ci = a.in_channels, pad = K / 2, block = NV * kVec, pitch = (W + 2 * pad) * block;
    const int64_t Cp = (a.out_channels + kEventLanes - 1) / kEventLanes * kEventLanes;
    const Bands bands(a);
    memset(a.out, 0, sizeof(float) * static_cast<size_t>(a.images * a.height * W * Ci));
    parallel(bands.count, a.threads, [&](int64_t begin, int64_t end) {
        float *go = scratch<float>(bands.group * (bands.rows + 2 * pad) * pitch);
        Grouped g(Ci);
        for (int64_t k = begin; k < end; ++k) {
            const Band band = bands.at(a, k);
            if (regroup(a, band, pad, block, g) == 0) continue;
            for (int64_t c0 = 0; c0 < Cp; c0 += block) {
                a.dtype == 0 ? pad_block<F32>(a, band, c0, block, pad, go) : pad_block<BF16>(a, band, c0, block, pad, go);
                for (int64_t c = 0; c < Ci; ++c)
                    input_row<K, NV>(g.position + g.start[c], g.target + g.start[c], g.start[c + 1] - g.start[c], go, pitch,
                                     a.weight + c * K * K * Cp + c0, Cp, static_cast<float *>(a.out));
            }
        }
        release(go);
    });
}

// Cp is a multiple of 16 floats; a block must divide it.
static void events_weight_grad(const Events &a) {
    const int64_t Cp = (a.out_channels + kEventLanes - 1) / kEventLanes * kEventLanes;
    if (a.kernel == 3) {
        if (Cp % (2 * kVec) == 0 && kVec == 16)
            weight_grad_sized<3, 2>(a);
        else
            weight_grad_sized<3, 1>(a);
    } else {
        if (Cp % (4 * kVec) == 0)
            weight_grad_sized<1, 4>(a);
        else
            weight_grad_sized<1, 1>(a);
    }
}

static void events_input_grad(const Events &a) {
    const int64_t Cp = (a.out_channels + kEventLanes - 1) / kEventLanes * kEventLanes;
    if (a.kernel == 3) {
        if (Cp % (2 * kVec) == 0 && kVec == 16)
            input_grad_sized<3, 2>(a);
        else
            input_grad_sized<3, 1>(a);
    } else {
        if (Cp % (4 * kVec) == 0)
            input_grad_sized<1, 4>(a);
        else
            input_grad_sized<1, 1>(a);
    }
}
