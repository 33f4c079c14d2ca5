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

template <int NV>
static void forward_row(const Events &a, const float *weight, int64_t image, int64_t row, int64_t c0, const float *bias, float *out) {
    // out [W][NV * 16] of one image row
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, K = a.kernel, pad = K / 2, block = NV * kEventLanes;
    for (int64_t ow = 0; ow < W; ++ow) {
        Vec acc[NV * kEventLanes / kVec];
        for (int v = 0; v < NV * kEventLanes / kVec; ++v) acc[v] = load_vec(bias + c0 + v * kVec);
        for (int64_t kh = 0; kh < K; ++kh) {
            const int64_t ih = row + kh - pad;
            if (ih < 0 || ih >= H) continue;
            const int32_t *at = a.offsets + (image * H + ih) * W;
            const int64_t first = larger(ow - pad, 0), last = smaller(ow + K - pad, W);
            // weight row of entry e: tap column (column - ow + pad), channel: e - (ow - pad) * Ci
            const float *base = weight + (kh * K * Ci - (ow - pad) * Ci) * block;
            for (int32_t e = at[first]; e < at[last]; ++e) {
                const float *w = base + static_cast<int64_t>(a.index[e]) * block;
                const Vec x = broadcast(a.value[e]);
                for (int v = 0; v < NV * kEventLanes / kVec; ++v) acc[v] = SPIKEFED_FMA(x, load_vec(w + v * kVec), acc[v]);
            }
        }
        for (int v = 0; v < NV * kEventLanes / kVec; ++v) store_vec(out + ow * block + v * kVec, acc[v]);
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

// [K*K*Ci][Cp] -> blocks [Cp / block][K*K*Ci][block]; the last block may be narrower.
static int64_t block_width(int64_t rows, int64_t Cp) {
    int64_t block = kMaxBlock;
    while (block > kEventLanes && (block > Cp || rows * block * 4 > (1 << 20) + (1 << 18))) block /= 2;
    return block;
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
                for (int64_t r = begin; r < end; ++r)
                    memcpy(packed + r * width, a.weight + r * Cp + b0, sizeof(float) * static_cast<size_t>(width));
            });
            parallel(a.images * a.height, a.threads, [&](int64_t begin, int64_t end) {
                float *out = scratch<float>(a.width * width);
                for (int64_t i = begin; i < end; ++i) {
                    const int64_t image = i / a.height, row = i % a.height;
                    if (width == 256)
                        forward_row<16>(a, packed, image, row, b0, bias, out);
                    else if (width == 128)
                        forward_row<8>(a, packed, image, row, b0, bias, out);
                    else if (width == 64)
                        forward_row<4>(a, packed, image, row, b0, bias, out);
                    else if (width == 32)
                        forward_row<2>(a, packed, image, row, b0, bias, out);
                    else
                        forward_row<1>(a, packed, image, row, b0, bias, out);
                    if (a.dtype == 0)
                        write_row(out, static_cast<float *>(a.out) + i * a.width * Co, a.width, Co, b0, width);
                    else
                        write_row(out, static_cast<uint16_t *>(a.out) + i * a.width * Co, a.width, Co, b0, width);
                }
                free(out);
            });
            b0 += width;
            while (block > kEventLanes && b0 + block > Cp) block /= 2;
        }
    }
    free(bias);
    free(packed);
}

// ---- building the lists -------------------------------------------------------------------------------------------------------

template <class E> static void count_typed(const Events &a) {
    const int64_t pixels = a.images * a.height * a.width, Ci = a.in_channels;
    const E *x = static_cast<const E *>(a.x);
    parallel(pixels, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
            const E *__restrict row = x + p * Ci;
            int32_t n = 0;
            for (int64_t c = 0; c < Ci; ++c) n += load(row[c]) != 0.0f;
            a.offsets[p + 1] = n;
        }
    });
    a.offsets[0] = 0;
    for (int64_t p = 0; p < pixels; ++p) a.offsets[p + 1] += a.offsets[p];
}

template <class E> static void list_typed(const Events &a) {
    const int64_t pixels = a.images * a.height * a.width, Ci = a.in_channels;
    const E *x = static_cast<const E *>(a.x);
    parallel(pixels, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
            int32_t e = a.offsets[p];
            const int32_t stop = a.offsets[p + 1];
            if (e == stop) continue;
            const E *row = x + p * Ci;
            const int64_t column = p % a.width * Ci;
            int64_t c = 0;
            for (; c + 16 <= Ci && e < stop; c += 16) { // a mask of 16, then its set bits
                uint32_t bits = nonzero16(row + c);
                while (bits) {
                    const int b = __builtin_ctz(bits);
                    bits &= bits - 1;
                    a.index[e] = static_cast<uint16_t>(column + c + b);
                    a.value[e++] = load(row[c + b]);
                }
            }
            for (; c < Ci; ++c)
                if (load(row[c]) != 0.0f) {
                    a.index[e] = static_cast<uint16_t>(column + c);
                    a.value[e++] = load(row[c]);
                }
        }
    });
}

static void events_count(const Events &a) { a.dtype == 0 ? count_typed<F32>(a) : count_typed<BF16>(a); }
static void events_list(const Events &a) { a.dtype == 0 ? list_typed<F32>(a) : list_typed<BF16>(a); }

// ---- weight gradient ----------------------------------------------------------------------------------------------------------

// Sums of one input channel over a group's events: K * K taps x NV vectors, in registers.
template <int K, int NV>
static void weight_row(const int32_t *position, const float *value, int64_t n, const float *go, int64_t pitch, float *dw, int64_t tap_stride) {
    Vec acc[K * K * NV];
    for (int i = 0; i < K * K; ++i)
        for (int v = 0; v < NV; ++v) acc[i * NV + v] = load_vec(dw + i * tap_stride + v * kVec);
    for (int64_t e = 0; e < n; ++e) {
        const float *g = go + position[e];
        const Vec x = broadcast(value[e]);
        for (int kh = 0; kh < K; ++kh)
            for (int kw = 0; kw < K; ++kw)
                for (int v = 0; v < NV; ++v)
                    acc[(kh * K + kw) * NV + v] =
                        SPIKEFED_FMA(x, load_vec(g - kh * pitch - kw * NV * kVec + v * kVec), acc[(kh * K + kw) * NV + v]);
    }
    for (int i = 0; i < K * K; ++i)
        for (int v = 0; v < NV; ++v) store_vec(dw + i * tap_stride + v * kVec, acc[i * NV + v]);
}

// Copies a block of output channels of `images` maps into a zero-padded buffer [images][H + 2 pad][W + 2 pad][block].
template <class E>
static void pad_block(const Events &a, int64_t first, int64_t images, int64_t c0, int64_t block, int64_t pad, float *to) {
    const int64_t H = a.height, W = a.width, Co = a.out_channels, n = smaller(block, Co - c0), pitch = (W + 2 * pad) * block;
    for (int64_t i = 0; i < images; ++i)
        for (int64_t h = 0; h < H; ++h)
            for (int64_t w = 0; w < W; ++w) {
                const E *__restrict from = static_cast<const E *>(a.go) + (((first + i) * H + h) * W + w) * Co + c0;
                float *__restrict t = to + (i * (H + 2 * pad) + h + pad) * pitch + (w + pad) * block;
                for (int64_t c = 0; c < n; ++c) t[c] = load(from[c]);
            }
}

template <int K, int NV> static void weight_grad_sized(const Events &a) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, Co = a.out_channels, pad = K / 2, block = NV * kVec;
    const int64_t Cp = (Co + kEventLanes - 1) / kEventLanes * kEventLanes, pixels = H * W;
    const int64_t group = larger(1, 1024 / pixels), groups = (a.images + group - 1) / group; // images whose events are summed at once
    const int64_t parts = smaller(groups, kParts), table = K * K * Ci * Cp;
    const int64_t pitch = (W + 2 * pad) * block, padded = (H + 2 * pad) * pitch;
    float *sums = parts > 1 ? scratch<float>(parts * table) : a.weight;
    if (parts == 1) memset(sums, 0, sizeof(float) * static_cast<size_t>(table));
    parallel(parts, a.threads, [&](int64_t begin, int64_t end) {
        float *go = scratch<float>(group * padded);
        int32_t *start = scratch<int32_t>(Ci + 1), *next = scratch<int32_t>(Ci + 1);
        int32_t *position = nullptr;
        float *value = nullptr;
        int64_t room = 0;
        for (int64_t part = begin; part < end; ++part)
            for (int64_t g = groups * part / parts; g < groups * (part + 1) / parts; ++g) {
                const int64_t first = g * group, images = smaller(group, a.images - first);
                const int32_t from = a.offsets[first * pixels], to = a.offsets[(first + images) * pixels];
                if (to - from > room) {
                    free(position), free(value);
                    room = (to - from) + (to - from) / 4;
                    position = scratch<int32_t>(room), value = scratch<float>(room);
                }
                // regroup by channel (stable, so the order of sums is fixed)
                memset(start, 0, sizeof(int32_t) * static_cast<size_t>(Ci + 1));
                for (int64_t p = first * pixels; p < (first + images) * pixels; ++p) {
                    const int64_t column = p % W * Ci;
                    for (int32_t e = a.offsets[p]; e < a.offsets[p + 1]; ++e) ++start[a.index[e] - column + 1];
                }
                for (int64_t c = 0; c < Ci; ++c) start[c + 1] += start[c];
                memcpy(next, start, sizeof(int32_t) * static_cast<size_t>(Ci));
                for (int64_t i = 0; i < images; ++i)
                    for (int64_t h = 0; h < H; ++h)
                        for (int64_t w = 0; w < W; ++w) {
                            const int64_t p = (first + i) * pixels + h * W + w;
                            // output pixel of tap (kh, kw) is (h - kh + pad, w - kw + pad); in the padded map add pad
                            const int32_t where = static_cast<int32_t>(i * padded + (h + 2 * pad) * pitch + (w + 2 * pad) * block);
                            for (int32_t e = a.offsets[p]; e < a.offsets[p + 1]; ++e) {
                                const int32_t at = next[a.index[e] - w * Ci]++;
                                position[at] = where;
                                value[at] = a.value[e];
                            }
                        }
                for (int64_t c0 = 0; c0 < Cp; c0 += block) {
                    a.dtype == 0 ? pad_block<F32>(a, first, images, c0, block, pad, go) : pad_block<BF16>(a, first, images, c0, block, pad, go);
                    for (int64_t c = 0; c < Ci; ++c)
                        weight_row<K, NV>(position + start[c], value + start[c], start[c + 1] - start[c], go, pitch,
                                          sums + part * table + c * Cp + c0, Ci * Cp);
                }
            }
        free(go), free(start), free(next), free(position), free(value);
    });
    if (parts > 1) {
        parallel(table / kEventLanes, a.threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin * kEventLanes; i < end * kEventLanes; ++i) {
                float s = 0;
                for (int64_t part = 0; part < parts; ++part) s += sums[part * table + i];
                a.weight[i] = s;
            }
        });
        free(sums);
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
