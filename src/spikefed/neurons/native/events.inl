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

static void events_count(const Events &a) { a.dtype == 0 ? count_typed<F32>(a) : count_typed<BF16>(a); }
static void events_list(const Events &a) { a.dtype == 0 ? list_typed<F32>(a) : list_typed<BF16>(a); }

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

template <int K, int NV> static void weight_grad_sized(const Events &a) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, Co = a.out_channels, pad = K / 2, block = NV * kVec;
    const int64_t Cp = (Co + kEventLanes - 1) / kEventLanes * kEventLanes;
    const int64_t band_rows = smaller(H, larger(1, kBandPixels / W)), cuts = (H + band_rows - 1) / band_rows; // bands of an image
    const int64_t group = cuts > 1 ? 1 : larger(1, kBandPixels / (H * W)), groups = (a.images + group - 1) / group;
    const int64_t bands = groups * cuts, parts = smaller(bands, kParts), table = K * K * Ci * Cp;
    const int64_t pitch = (W + 2 * pad) * block;
    float *sums = parts > 1 ? scratch<float>(parts * table) : a.weight;
    if (parts == 1) memset(sums, 0, sizeof(float) * static_cast<size_t>(table));
    parallel(parts, a.threads, [&](int64_t begin, int64_t end) {
        float *go = scratch<float>(group * (band_rows + 2 * pad) * pitch);
        int32_t *start = scratch<int32_t>(Ci + 1), *next = scratch<int32_t>(Ci + 1), *position = nullptr;
        float *value = nullptr;
        int64_t room = 0;
        for (int64_t part = begin; part < end; ++part)
            for (int64_t k = bands * part / parts; k < bands * (part + 1) / parts; ++k) {
                Band band{k / cuts * group, 0, k % cuts * band_rows, 0};
                band.images = smaller(group, a.images - band.image);
                band.rows = smaller(band_rows, H - band.row);
                const int64_t padded = (band.rows + 2 * pad) * pitch;
                // regroup the band's events by input channel (stable, so the order of sums is fixed)
                memset(start, 0, sizeof(int32_t) * static_cast<size_t>(Ci + 1));
                int64_t total = 0;
                for (int64_t i = 0; i < band.images; ++i)
                    for (int64_t h = 0; h < band.rows; ++h) {
                        const int32_t *at = a.offsets + ((band.image + i) * H + band.row + h) * W;
                        total += at[W] - at[0];
                        for (int64_t w = 0; w < W; ++w)
                            for (int32_t e = at[w]; e < at[w + 1]; ++e) ++start[a.index[e] - w * Ci + 1];
                    }
                if (total == 0) continue;
                if (total > room) {
                    release(position), release(value);
                    room = total + total / 4;
                    position = scratch<int32_t>(room), value = scratch<float>(room);
                }
                for (int64_t c = 0; c < Ci; ++c) start[c + 1] += start[c];
                memcpy(next, start, sizeof(int32_t) * static_cast<size_t>(Ci));
                for (int64_t i = 0; i < band.images; ++i)
                    for (int64_t h = 0; h < band.rows; ++h) {
                        const int32_t *at = a.offsets + ((band.image + i) * H + band.row + h) * W;
                        for (int64_t w = 0; w < W; ++w) {
                            // tap (kh, kw) meets output pixel (h - kh + pad, w - kw + pad); the buffer begins pad before the band
                            const int32_t where = static_cast<int32_t>(i * padded + (h + 2 * pad) * pitch + (w + 2 * pad) * block);
                            for (int32_t e = at[w]; e < at[w + 1]; ++e) {
                                const int32_t to = next[a.index[e] - w * Ci]++;
                                position[to] = where;
                                if (a.value) value[to] = a.value[e];
                            }
                        }
                    }
                for (int64_t c0 = 0; c0 < Cp; c0 += block) {
                    a.dtype == 0 ? pad_block<F32>(a, band, c0, block, pad, go) : pad_block<BF16>(a, band, c0, block, pad, go);
                    for (int64_t c = 0; c < Ci; ++c) {
                        const int64_t n = start[c + 1] - start[c];
                        float *dw = sums + part * table + c * K * K * Cp + c0;
                        if (n == 0) continue;
                        a.value ? weight_row<K, NV, false>(position + start[c], value + start[c], n, go, pitch, dw, Cp)
                                : weight_row<K, NV, true>(position + start[c], nullptr, n, go, pitch, dw, Cp);
                    }
                }
            }
        release(go), release(start), release(next), release(position), release(value);
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
