// Products with sparse weights. Included once per instruction set (see norm_lif.inl for the rules). No sum depends on threads.
//
// By event: an image's sums lie in a zero-padded map, so that a synapse is one address away from its spike and there are no edges.
// By weight: images stand innermost, [channel][row][column][image], rows zero-padded, so that a tap is an address too and a weight
// meets whole vectors; the sums stay in registers until all synapses of an output channel are added.

static constexpr int kSums = 8;                                   // vectors of sums in registers
static constexpr int64_t kRun = kSums * kVec;                     // neighbouring sums of one output channel
static constexpr int64_t kGroup = 16;                             // output channels that are written together
static constexpr int64_t kMostTaps = 7 * 7;
static constexpr int64_t kNear = 1 << 17;                         // floats of inputs that stay in the second-level cache

static void spread_bias(const Synapses &a, float *sums, int64_t count) {
    const int64_t Co = a.out_channels;
    if (!a.bias) {
        memset(sums, 0, sizeof(float) * static_cast<size_t>(count * Co));
        return;
    }
    for (int64_t i = 0; i < count; ++i) memcpy(sums + i * Co, a.bias, sizeof(float) * static_cast<size_t>(Co));
}

static SPIKEFED_INLINE void add_synapses(float *sums, const int32_t *to, const float *value, int64_t count, float x) {
    int64_t e = 0;
    for (; e + 4 <= count; e += 4) { // the synapses of one spike never share a sum
        const float s0 = sums[to[e]] + x * value[e], s1 = sums[to[e + 1]] + x * value[e + 1];
        const float s2 = sums[to[e + 2]] + x * value[e + 2], s3 = sums[to[e + 3]] + x * value[e + 3];
        sums[to[e]] = s0;
        sums[to[e + 1]] = s1;
        sums[to[e + 2]] = s2;
        sums[to[e + 3]] = s3;
    }
    for (; e < count; ++e) sums[to[e]] += x * value[e];
}

static void synapses_by_event(const Synapses &a) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, Co = a.out_channels, K = a.kernel, pad = K / 2;
    const int64_t pitch = W + 2 * pad, rows = H + 2 * pad, total = a.start[Ci];
    int32_t *to = unset<int32_t>(total + 1);
    int32_t taps[kMostTaps];
    for (int64_t t = 0; t < K * K; ++t) taps[t] = static_cast<int32_t>(((2 * pad - t / K) * pitch + 2 * pad - t % K) * Co);
    for (int64_t e = 0; e < total; ++e) to[e] = taps[a.tap[e]] + a.channel[e];
    parallel(a.images, a.threads, [&](int64_t begin, int64_t end) {
        float *padded = pad ? unset<float>(rows * pitch * Co) : nullptr;
        for (int64_t image = begin; image < end; ++image) {
            float *out = a.out + image * H * W * Co, *sums = pad ? padded : out;
            spread_bias(a, sums, rows * pitch);
            const float *x = a.x + image * H * W * Ci;
            for (int64_t p = 0; p < H * W; ++p) {
                float *at = sums + (p / W * pitch + p % W) * Co;
                const float *from = x + p * Ci;
                int64_t c = 0;
                for (; c + 16 <= Ci; c += 16)
                    for (uint32_t left = nonzero16(from + c); left; left &= left - 1) {
                        const int64_t ci = c + lowest_bit(left);
                        const int32_t first = a.start[ci];
                        add_synapses(at, to + first, a.value + first, a.start[ci + 1] - first, from[ci]);
                    }
                for (; c < Ci; ++c) {
                    const int32_t first = a.start[c];
                    if (from[c] != 0.0f) add_synapses(at, to + first, a.value + first, a.start[c + 1] - first, from[c]);
                }
            }
            for (int64_t y = 0; pad && y < H; ++y)
                memcpy(out + y * W * Co, sums + ((y + pad) * pitch + pad) * Co, sizeof(float) * static_cast<size_t>(W * Co));
        }
        release(padded);
    });
    release(to);
}

// 8 x 8 numbers: to[j * to_step + i] = from[i * from_step + j].
static SPIKEFED_INLINE void turn8(const float *from, int64_t from_step, float *to, int64_t to_step) {
#if defined(SPIKEFED_AVX512) || defined(SPIKEFED_AVX2)
    __m256 r[8], s[8];
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(from + i * from_step);
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            r[i + 2 * j] = _mm256_shuffle_ps(s[i + j], s[i + j + 2], 0x44);
            r[i + 2 * j + 1] = _mm256_shuffle_ps(s[i + j], s[i + j + 2], 0xee);
        }
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < 4; ++i) {
        _mm256_storeu_ps(to + i * to_step, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_step, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
#else
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) to[j * to_step + i] = from[i * from_step + j];
#endif
}

// Images innermost: rows [first - pad, first + count + pad) of `near` images, from channels-last; `given` images are there, then zeros.
static void turn_in(const Synapses &a, int64_t image, int64_t near, int64_t given, int64_t first, int64_t count, int64_t plane, float *to) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, pad = a.kernel / 2, pitch = W + 2 * pad, next = H * W * Ci;
    for (int64_t r = 0; r < count + 2 * pad; ++r) {
        const int64_t y = first + r - pad;
        for (int64_t q = 0; q < pitch; ++q) {
            float *at = to + (r * pitch + q) * near;
            const int64_t column = q - pad;
            if (y < 0 || y >= H || column < 0 || column >= W) {
                for (int64_t c = 0; c < Ci; ++c) memset(at + c * plane, 0, sizeof(float) * static_cast<size_t>(near));
                continue;
            }
            const float *from = a.x + ((image * H + y) * W + column) * Ci;
            for (int64_t n = 0; n < near; n += 8) {
                const int64_t there = smaller(8, given - n);
                int64_t c = 0;
                if (there == 8)
                    for (; c + 8 <= Ci; c += 8) turn8(from + n * next + c, next, at + n + c * plane, plane);
                for (; c < Ci; ++c)
                    for (int64_t i = 0; i < 8; ++i) at[c * plane + n + i] = i < there ? from[(n + i) * next + c] : 0.0f;
            }
        }
    }
}

// Sums of one output channel at N vectors of neighbouring places.
template <int N>
static SPIKEFED_INLINE void gather_run(const float *x, const int32_t *from, const float *value, int64_t count, float bias, float *out) {
    Vec sums[N];
    SPIKEFED_UNROLL_ALL
    for (int v = 0; v < N; ++v) sums[v] = broadcast(bias);
    for (int64_t e = 0; e < count; ++e) {
        const float *at = x + from[e];
        const Vec w = broadcast(value[e]);
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < N; ++v) sums[v] = SPIKEFED_FMA(w, load_vec(at + v * kVec), sums[v]);
    }
    SPIKEFED_UNROLL_ALL
    for (int v = 0; v < N; ++v) store_vec(out + v * kVec, sums[v]);
}

template <int N> static void gather_group(const Synapses &a, const float *x, const int32_t *from, int64_t c0, int64_t group, float *sums) {
    for (int64_t c = 0; c < group; ++c) {
        const int32_t begins = a.start[c0 + c];
        const float bias = a.bias ? a.bias[c0 + c] : 0.0f;
        gather_run<N>(x, from + begins, a.value + begins, a.start[c0 + c + 1] - begins, bias, sums + c * kRun);
    }
}

// `group` channels of kRun places back to channels-last; place = (row * pitch + column) * near + image.
static void turn_out(const Synapses &a, int64_t image, int64_t near, int64_t given, int64_t first, int64_t count, int64_t at, int64_t c0,
                     int64_t group, const float *sums) {
    const int64_t H = a.height, W = a.width, Co = a.out_channels, pitch = W + 2 * (a.kernel / 2), next = H * W * Co;
    int64_t n = at % near, q = at / near % pitch, r = at / near / pitch;
    for (int64_t i = 0; i < kRun && r < count; i += 8) {
        if (q < W) {
            const int64_t there = smaller(8, given - n);
            float *to = a.out + (((image + n) * H + first + r) * W + q) * Co + c0;
            int64_t c = 0;
            if (there == 8)
                for (; c + 8 <= group; c += 8) turn8(sums + c * kRun + i, kRun, to + c, next);
            for (; c < group; ++c)
                for (int64_t k = 0; k < there; ++k) to[k * next + c] = sums[c * kRun + i + k];
        }
        n += 8;
        if (n >= near) {
            n = 0;
            if (++q == pitch) q = 0, ++r;
        }
    }
}

static void synapses_by_weight(const Synapses &a) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, Co = a.out_channels, K = a.kernel, pad = K / 2, pitch = W + 2 * pad;
    int64_t band = H, near = H * W == 1 ? kRun : 16; // multiples of 8
    while (near > 8 && (near / 2 >= a.images || Ci * (band + 2 * pad) * pitch * near > kNear)) near /= 2;
    while (band > 2 && Ci * (band + 2 * pad) * pitch * near > kNear) band = (band + 1) / 2;
    const int64_t chunks = (a.images + near - 1) / near, bands = (H + band - 1) / band;
    const int64_t total = a.start[Co];
    parallel(chunks * bands, a.threads, [&](int64_t begin, int64_t end) {
        const int64_t plane = ((band + 2 * pad) * pitch * near + 15) / 16 * 16 + 16; // no power of two between planes
        float *x = scratch<float>(Ci * plane + kRun), *sums = unset<float>(kGroup * kRun);
        int32_t *from = unset<int32_t>(total + 1);
        int32_t taps[kMostTaps];
        for (int64_t t = 0; t < K * K; ++t) taps[t] = static_cast<int32_t>((t / K * pitch + t % K) * near);
        for (int64_t e = 0; e < total; ++e) from[e] = taps[a.tap[e]] + a.channel[e] * static_cast<int32_t>(plane);
        for (int64_t unit = begin; unit < end; ++unit) {
            const int64_t image = unit / bands * near, given = smaller(near, a.images - image);
            const int64_t first = unit % bands * band, high = smaller(band, H - first);
            turn_in(a, image, near, given, first, high, plane, x);
            const int64_t length = ((high - 1) * pitch + W) * near;
            for (int64_t at = 0; at < length; at += kRun)
                for (int64_t c0 = 0; c0 < Co; c0 += kGroup) {
                    const int64_t group = smaller(kGroup, Co - c0);
                    const int64_t left = (length - at + kVec - 1) / kVec;
                    if (left >= 5)
                        gather_group<kSums>(a, x + at, from, c0, group, sums);
                    else
                        left >= 2 ? gather_group<4>(a, x + at, from, c0, group, sums) : gather_group<1>(a, x + at, from, c0, group, sums);
                    turn_out(a, image, near, given, first, high, at, c0, group, sums);
                }
        }
        release(from);
        release(sums);
        release(x);
    });
}

static void synapses(const Synapses &a) { a.by_event ? synapses_by_event(a) : synapses_by_weight(a); }
