// Eight steps at a time: the vectors of pruned layers. Included once per instruction set (see norm_lif.inl for the rules).

static constexpr int kSlots = 8; // steps that are worked on together

#if defined(SPIKEFED_AVX512)
static SPIKEFED_INLINE void store_fired(uint8_t *to, uint32_t bits) { // a byte of 0 or 1 for each lane
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm_maskz_set1_epi8(static_cast<__mmask16>(bits), 1));
}
#else
static SPIKEFED_INLINE void store_fired(uint8_t *to, uint32_t bits) { // a byte of 0 or 1 for each lane
    for (int i = 0; i < kVec; i += 8) {
        uint64_t spread = ((bits >> i & 255u) * 0x0101010101010101ull) & 0x8040201008040201ull;
        spread = ((spread + 0x7f7f7f7f7f7f7f7full) >> 7) & 0x0101010101010101ull;
        memcpy(to + i, &spread, kVec < 8 ? kVec : 8);
    }
}
#endif

// A vector of small counts, as numbers.
static SPIKEFED_INLINE Vec load_map(const float *p) { return load_vec(p); }
static SPIKEFED_INLINE Vec load_map(const uint8_t *p) {
#if defined(SPIKEFED_AVX512)
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))));
#elif defined(SPIKEFED_AVX2)
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p))));
#else
    float all[kVec];
    for (int i = 0; i < kVec; ++i) all[i] = static_cast<float>(p[i]);
    return load_vec(all);
#endif
}

// A bit for each of 16 numbers that is not zero at one of `steps` steps.
template <class E> static SPIKEFED_INLINE uint32_t active16(const E *from, int64_t apart, int64_t steps) {
    uint32_t bits = 0;
    for (int64_t t = 0; t < steps; ++t) bits |= nonzero16(from + t * apart);
    return bits;
}
#if defined(SPIKEFED_AVX512) || defined(SPIKEFED_AVX2)
static SPIKEFED_INLINE uint32_t active16(const uint8_t *from, int64_t apart, int64_t steps) {
    __m128i all = _mm_setzero_si128();
    for (int64_t t = 0; t < steps; ++t) all = _mm_or_si128(all, _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + t * apart)));
    return 0xffffu & ~static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_setzero_si128())));
}
#endif

// at[0..8) += w * x[0..8)
#if defined(SPIKEFED_AVX512)
using Eight = __m256;
static SPIKEFED_INLINE Eight load_eight(const float *p) { return _mm256_loadu_ps(p); }
static SPIKEFED_INLINE void add_scaled(float *at, float w, Eight x) {
    _mm256_storeu_ps(at, _mm256_mask_fmadd_ps(x, 0xff, _mm256_set1_ps(w), _mm256_loadu_ps(at)));
}
#elif defined(SPIKEFED_AVX2)
using Eight = __m256;
static SPIKEFED_INLINE Eight load_eight(const float *p) { return _mm256_loadu_ps(p); }
static SPIKEFED_INLINE void add_scaled(float *at, float w, Eight x) {
    _mm256_storeu_ps(at, _mm256_fmadd_ps(x, _mm256_set1_ps(w), _mm256_loadu_ps(at)));
}
#else
struct Eight {
    Vec low, high;
};
static SPIKEFED_INLINE Eight load_eight(const float *p) { return Eight{load_vec(p), load_vec(p + 4)}; }
static SPIKEFED_INLINE void add_scaled(float *at, float w, const Eight &x) {
    const Vec all = broadcast(w);
    store_vec(at, SPIKEFED_FMA(all, x.low, load_vec(at)));
    store_vec(at + 4, SPIKEFED_FMA(all, x.high, load_vec(at + 4)));
}
#endif

// to[t] = the t-th of eight numbers of each of kVec neighbours.
static SPIKEFED_INLINE void turn_steps(const float *from, Vec *to) {
#if defined(SPIKEFED_AVX512)
    const __m512i early = _mm512_set_epi32(27, 19, 26, 18, 25, 17, 24, 16, 11, 3, 10, 2, 9, 1, 8, 0);
    const __m512i late = _mm512_add_epi32(early, _mm512_set1_epi32(4));
    __m512 y[8];
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < 8; i += 4) { // neighbours 2 i .. 2 i + 7, two of them in a register
        const __m512 a = load_vec(from + 16 * i), b = load_vec(from + 16 * i + 16), c = load_vec(from + 16 * i + 32), d = load_vec(from + 16 * i + 48);
        const __m512 ab = _mm512_unpacklo_ps(a, b), AB = _mm512_unpackhi_ps(a, b), cd = _mm512_unpacklo_ps(c, d), CD = _mm512_unpackhi_ps(c, d);
        y[i] = _mm512_shuffle_ps(ab, cd, 0x44), y[i + 1] = _mm512_shuffle_ps(ab, cd, 0xee);
        y[i + 2] = _mm512_shuffle_ps(AB, CD, 0x44), y[i + 3] = _mm512_shuffle_ps(AB, CD, 0xee);
    }
    SPIKEFED_UNROLL_ALL
    for (int t = 0; t < 4; ++t) {
        to[t] = _mm512_permutex2var_ps(y[t], early, y[t + 4]);
        to[t + 4] = _mm512_permutex2var_ps(y[t], late, y[t + 4]);
    }
#elif defined(SPIKEFED_AVX2)
    __m256 r[8], s[8];
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < 8; i += 2) {
        const __m256 a = load_vec(from + 8 * i), b = load_vec(from + 8 * i + 8);
        r[i] = _mm256_unpacklo_ps(a, b), r[i + 1] = _mm256_unpackhi_ps(a, b);
    }
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            s[i + 2 * j] = _mm256_shuffle_ps(r[i + j], r[i + j + 2], 0x44);
            s[i + 2 * j + 1] = _mm256_shuffle_ps(r[i + j], r[i + j + 2], 0xee);
        }
    SPIKEFED_UNROLL_ALL
    for (int t = 0; t < 4; ++t) {
        to[t] = _mm256_permute2f128_ps(s[t], s[t + 4], 0x20);
        to[t + 4] = _mm256_permute2f128_ps(s[t], s[t + 4], 0x31);
    }
#else
    for (int t = 0; t < kSlots; ++t) {
        float all[kVec];
        for (int i = 0; i < kVec; ++i) all[i] = from[i * kSlots + t];
        to[t] = load_vec(all);
    }
#endif
}

static SPIKEFED_INLINE void copy_row(const uint8_t *from, int64_t n, uint8_t *to) { // rows are short: no calls
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) memcpy(to + i, from + i, 16);
    for (; i + 8 <= n; i += 8) memcpy(to + i, from + i, 8);
    for (; i < n; ++i) to[i] = from[i];
}

// How many of two by two fired.
static SPIKEFED_INLINE void pool_row(const uint8_t *top, const uint8_t *bottom, int64_t n, uint8_t *to) {
    int64_t i = 0;
#if defined(SPIKEFED_AVX512) || defined(SPIKEFED_AVX2)
    const auto pairs = [&](int64_t at) SPIKEFED_LAMBDA {
        const __m128i above = _mm_loadu_si128(reinterpret_cast<const __m128i *>(top + at));
        return _mm_maddubs_epi16(_mm_add_epi8(above, _mm_loadu_si128(reinterpret_cast<const __m128i *>(bottom + at))), _mm_set1_epi8(1));
    };
    for (; i + 16 <= n; i += 16) _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i), _mm_packus_epi16(pairs(2 * i), pairs(2 * i + 16)));
    for (; i + 8 <= n; i += 8) _mm_storel_epi64(reinterpret_cast<__m128i *>(to + i), _mm_packus_epi16(pairs(2 * i), _mm_setzero_si128()));
#endif
    for (; i + 4 <= n; i += 4) { // eight bytes of each row: their sums by place, then those of neighbours
        uint64_t above, below;
        memcpy(&above, top + 2 * i, 8);
        memcpy(&below, bottom + 2 * i, 8);
        const uint64_t both = above + below, pairs_of = (both + (both >> 8)) & 0x00ff00ff00ff00ffull;
        const uint64_t close = (pairs_of | pairs_of >> 8) & 0x0000ffff0000ffffull;
        const uint32_t four = static_cast<uint32_t>(close | close >> 16);
        memcpy(to + i, &four, 4);
    }
    for (; i < n; ++i) to[i] = static_cast<uint8_t>(top[2 * i] + top[2 * i + 1] + bottom[2 * i] + bottom[2 * i + 1]);
}
