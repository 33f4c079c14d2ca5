// The float vector of a variant: Vec, kVec lanes, + - * / by lane, unaligned load and store (also of bfloat16 numbers), broadcast,
// fused multiply-add, Mask (comparisons, choose), masks of non-zeros as bits.
#undef SPIKEFED_INLINE
#undef SPIKEFED_LAMBDA
#undef SPIKEFED_APART
#undef SPIKEFED_UNROLL
#undef SPIKEFED_UNROLL_ALL
#undef SPIKEFED_PREFETCH
#undef SPIKEFED_PREFETCH_FAR
#if defined(__GNUC__)
#define SPIKEFED_INLINE inline __attribute__((always_inline))
#define SPIKEFED_LAMBDA __attribute__((always_inline))
#define SPIKEFED_APART __attribute__((noinline)) // compiled once, not in every kernel that calls it
#define SPIKEFED_UNROLL _Pragma("GCC unroll 8")
#define SPIKEFED_UNROLL_ALL _Pragma("GCC unroll 64")
#define SPIKEFED_PREFETCH(p, write) __builtin_prefetch(p, write)
#define SPIKEFED_PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2) // to the second-level cache
#else
#define SPIKEFED_INLINE inline
#define SPIKEFED_LAMBDA
#define SPIKEFED_APART
#define SPIKEFED_UNROLL
#define SPIKEFED_UNROLL_ALL
#define SPIKEFED_PREFETCH(p, write) static_cast<void>(p)
#define SPIKEFED_PREFETCH_FAR(p) static_cast<void>(p)
#endif
#if defined(SPIKEFED_AVX512)
using Vec = __m512;
static constexpr int kVec = 16;
static inline Vec load_vec(const float *p) { return _mm512_loadu_ps(p); }
static inline void store_vec(float *p, Vec v) { _mm512_storeu_ps(p, v); }
static inline Vec broadcast(float x) { return _mm512_set1_ps(x); }
#define SPIKEFED_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define SPIKEFED_ADD(a, b) _mm512_add_ps(a, b)
static inline uint32_t nonzero16(const float *p) { return _mm512_cmp_ps_mask(_mm512_loadu_ps(p), _mm512_setzero_ps(), _CMP_NEQ_UQ); }
static inline uint32_t nonzero16(const uint16_t *p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
    return _mm256_test_epi16_mask(bits, _mm256_set1_epi16(0x7fff)); // -0 counts as 0
}
static inline uint32_t ones16(const float *p) { return _mm512_cmp_ps_mask(_mm512_loadu_ps(p), _mm512_set1_ps(1.0f), _CMP_EQ_OQ); }
static inline uint32_t ones16(const uint16_t *p) {
    return _mm256_cmpeq_epi16_mask(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)), _mm256_set1_epi16(0x3f80));
}
static inline uint32_t nonzero16(const uint8_t *p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return _mm_test_epi8_mask(bytes, bytes);
}
static inline uint32_t ones16(const uint8_t *p) { return nonzero16(p); }
static inline float sum_lanes(Vec v) { return _mm512_reduce_add_ps(v); }
using Mask = __mmask16;
static inline Mask at_least(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
static inline Mask below(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline Mask either(Mask a, Mask b) { return static_cast<Mask>(a | b); }
static inline Vec choose(Mask m, Vec yes, Vec no) { return _mm512_mask_blend_ps(m, no, yes); }
static inline uint32_t bits_of(Mask m) { return m; }
static inline Vec absolute(Vec v) { return _mm512_abs_ps(v); }
static inline Vec square_root(Vec v) { return _mm512_sqrt_ps(v); }
#elif defined(SPIKEFED_AVX2)
using Vec = __m256;
static constexpr int kVec = 8;
static inline Vec load_vec(const float *p) { return _mm256_loadu_ps(p); }
static inline void store_vec(float *p, Vec v) { _mm256_storeu_ps(p, v); }
static inline Vec broadcast(float x) { return _mm256_set1_ps(x); }
#define SPIKEFED_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define SPIKEFED_ADD(a, b) _mm256_add_ps(a, b)
static inline uint32_t half(const float *p) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p), _mm256_setzero_ps(), _CMP_NEQ_UQ)));
}
static inline uint32_t nonzero16(const float *p) { return half(p) | half(p + 8) << 8; }
static inline uint32_t where16(__m256i words) { // a bit for each word of 0xffff
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    return static_cast<uint32_t>(_mm_movemask_epi8(bytes));
}
static inline uint32_t nonzero16(const uint16_t *p) { // -0 counts as 0
    const __m256i bits = _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)), _mm256_set1_epi16(0x7fff));
    return 0xffffu & ~where16(_mm256_cmpeq_epi16(bits, _mm256_setzero_si256()));
}
static inline uint32_t ones16(const float *p) {
    const __m256 one = _mm256_set1_ps(1.0f);
    const int low = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p), one, _CMP_EQ_OQ));
    return static_cast<uint32_t>(low | _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p + 8), one, _CMP_EQ_OQ)) << 8);
}
static inline uint32_t ones16(const uint16_t *p) {
    return where16(_mm256_cmpeq_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)), _mm256_set1_epi16(0x3f80)));
}
static inline uint32_t nonzero16(const uint8_t *p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return 0xffffu & ~static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128())));
}
static inline uint32_t ones16(const uint8_t *p) { return nonzero16(p); }
static inline float sum_lanes(Vec v) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
static inline Vec load_vec(const uint16_t *p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline void store_vec(uint16_t *p, Vec v) { // round to nearest even
    const __m256i bits = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i high = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
}
using Mask = __m256;
static inline Mask at_least(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
static inline Mask below(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline Mask either(Mask a, Mask b) { return _mm256_or_ps(a, b); }
static inline Vec choose(Mask m, Vec yes, Vec no) { return _mm256_blendv_ps(no, yes, m); }
static inline uint32_t bits_of(Mask m) { return static_cast<uint32_t>(_mm256_movemask_ps(m)); }
static inline Vec absolute(Vec v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
static inline Vec square_root(Vec v) { return _mm256_sqrt_ps(v); }
#elif defined(__GNUC__)
using Vec = float __attribute__((vector_size(16))); // the compiler's own: SSE2, NEON, or whatever the platform has
using Mask = int32_t __attribute__((vector_size(16)));
static constexpr int kVec = 4;
static inline Vec load_vec(const float *p) {
    Vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store_vec(float *p, Vec v) { memcpy(p, &v, sizeof v); }
static inline Vec broadcast(float x) { return Vec{x, x, x, x}; }
#define SPIKEFED_FMA(a, b, c) ((a) * (b) + (c))
#define SPIKEFED_ADD(a, b) ((a) + (b))
static inline float sum_lanes(Vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }
static inline Vec load_vec(const uint16_t *p) { return Vec{load(p[0]), load(p[1]), load(p[2]), load(p[3])}; }
static inline void store_vec(uint16_t *p, Vec v) {
    for (int i = 0; i < 4; ++i) store(p + i, v[i]);
}
static inline Mask at_least(Vec a, Vec b) { return a >= b; }
static inline Mask below(Vec a, Vec b) { return a < b; }
static inline Mask either(Mask a, Mask b) { return a | b; }
static inline Vec choose(Mask m, Vec yes, Vec no) { return m ? yes : no; }
static inline uint32_t bits_of(Mask m) { return static_cast<uint32_t>((m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8)); }
static inline Vec absolute(Vec v) { return (Vec)((Mask)v & 0x7fffffff); }
static inline Vec square_root(Vec v) { return Vec{sqrtf(v[0]), sqrtf(v[1]), sqrtf(v[2]), sqrtf(v[3])}; }
#else
struct Vec {
    float lane[4];
};
static constexpr int kVec = 4;
static inline Vec load_vec(const float *p) {
    Vec v;
    memcpy(v.lane, p, sizeof v.lane);
    return v;
}
static inline void store_vec(float *p, const Vec &v) { memcpy(p, v.lane, sizeof v.lane); }
static inline Vec broadcast(float x) { return Vec{{x, x, x, x}}; }
static inline Vec multiply_add(const Vec &a, const Vec &b, Vec c) {
    for (int i = 0; i < 4; ++i) c.lane[i] += a.lane[i] * b.lane[i];
    return c;
}
#define SPIKEFED_FMA(a, b, c) multiply_add(a, b, c)
#define SPIKEFED_ADD(a, b) multiply_add(a, broadcast(1.0f), b)
static inline float sum_lanes(const Vec &v) { return (v.lane[0] + v.lane[2]) + (v.lane[1] + v.lane[3]); }
static inline Vec load_vec(const uint16_t *p) { return Vec{{load(p[0]), load(p[1]), load(p[2]), load(p[3])}}; }
static inline void store_vec(uint16_t *p, const Vec &v) {
    for (int i = 0; i < 4; ++i) store(p + i, v.lane[i]);
}
#define SPIKEFED_LANES(expression) \
    Vec r; \
    for (int i = 0; i < 4; ++i) r.lane[i] = expression; \
    return r
static inline Vec operator+(const Vec &a, const Vec &b) { SPIKEFED_LANES(a.lane[i] + b.lane[i]); }
static inline Vec operator-(const Vec &a, const Vec &b) { SPIKEFED_LANES(a.lane[i] - b.lane[i]); }
static inline Vec operator*(const Vec &a, const Vec &b) { SPIKEFED_LANES(a.lane[i] * b.lane[i]); }
static inline Vec operator/(const Vec &a, const Vec &b) { SPIKEFED_LANES(a.lane[i] / b.lane[i]); }
struct Mask {
    bool lane[4];
};
static inline Vec choose(const Mask &m, const Vec &yes, const Vec &no) { SPIKEFED_LANES(m.lane[i] ? yes.lane[i] : no.lane[i]); }
static inline Vec absolute(const Vec &v) { SPIKEFED_LANES(fabsf(v.lane[i])); }
static inline Vec square_root(const Vec &v) { SPIKEFED_LANES(sqrtf(v.lane[i])); }
#undef SPIKEFED_LANES
static inline Mask at_least(const Vec &a, const Vec &b) {
    return Mask{{a.lane[0] >= b.lane[0], a.lane[1] >= b.lane[1], a.lane[2] >= b.lane[2], a.lane[3] >= b.lane[3]}};
}
static inline Mask below(const Vec &a, const Vec &b) {
    return Mask{{a.lane[0] < b.lane[0], a.lane[1] < b.lane[1], a.lane[2] < b.lane[2], a.lane[3] < b.lane[3]}};
}
static inline uint32_t bits_of(const Mask &m) {
    return static_cast<uint32_t>(m.lane[0] | m.lane[1] << 1 | m.lane[2] << 2 | m.lane[3] << 3);
}
static inline Mask either(Mask a, const Mask &b) {
    for (int i = 0; i < 4; ++i) a.lane[i] = a.lane[i] || b.lane[i];
    return a;
}
#endif

#if !defined(SPIKEFED_AVX2) && !defined(SPIKEFED_AVX512)
template <class E> static inline uint32_t nonzero16(const E *p) {
    uint32_t bits = 0;
    for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(load(p[i]) != 0.0f) << i;
    return bits;
}
template <class E> static inline uint32_t ones16(const E *p) {
    uint32_t bits = 0;
    for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(load(p[i]) == 1.0f) << i;
    return bits;
}
#endif

// Few kernels, each of which looks up more: the portable ones are compiled everywhere and seldom run.
#if defined(SPIKEFED_AVX2) || defined(SPIKEFED_AVX512)
static constexpr bool kCompact = false;
#else
static constexpr bool kCompact = true;
#endif

// The first n <= kVec numbers at p, zeros after them; and back. `exact`: no rounding, for numbers that E has.
#if defined(SPIKEFED_AVX512)
static inline __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
static inline Vec load_some(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
static inline Vec load_some(const uint16_t *p, int64_t n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p)), 16));
}
static inline void store_some(float *p, Vec v, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
static inline void store_some_exact(float *p, Vec v, int64_t n) { store_some(p, v, n); }
static inline void store_some_exact(uint16_t *p, Vec v, int64_t n) {
    const __m256i bits = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(v), 16));
    if (n == kVec)
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), bits);
    else
        _mm256_mask_storeu_epi16(p, first_lanes(n), bits);
}
static inline void store_some(uint16_t *p, Vec v, int64_t n) { // round to nearest even
    const __m512i bits = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    store_some_exact(p, _mm512_castsi512_ps(rounded), n);
}
#else
// In pieces of 4, 2 and 1: a loop or a call would spill every vector register.
template <class E> static SPIKEFED_INLINE void copy_some(const E *from, E *to, int64_t n) {
    int64_t i = 0;
    if (kVec > 4 && (n & 4)) {
        memcpy(to, from, 4 * sizeof(E));
        i = 4;
    }
    if (n & 2) {
        memcpy(to + i, from + i, 2 * sizeof(E));
        i += 2;
    }
    if (n & 1) to[i] = from[i];
}
#if defined(SPIKEFED_AVX2)
static inline __m256i first_lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}
static inline Vec load_some(const float *p, int64_t n) { return n == kVec ? load_vec(p) : _mm256_maskload_ps(p, first_lanes(n)); }
static inline void store_some(float *p, Vec v, int64_t n) { n == kVec ? store_vec(p, v) : _mm256_maskstore_ps(p, first_lanes(n), v); }
static inline Vec load_some(const uint16_t *p, int64_t n) { // no branch besides the first, which the kernels' registers do not bear
    if (n == kVec) return load_vec(p);
    uint16_t all[kVec] = {};
    for (int i = 0; i < kVec; ++i) all[i] = i < n ? p[i] : 0;
    return load_vec(all);
}
static inline void store_some(uint16_t *p, Vec v, int64_t n) {
    if (n == kVec) return store_vec(p, v);
    uint16_t all[kVec];
    store_vec(all, v);
    for (int i = 0; i < kVec; ++i)
        if (i < n) p[i] = all[i];
}
#endif
template <class E> static inline Vec load_some(const E *p, int64_t n) {
    if (n == kVec) return load_vec(p);
    E all[kVec] = {};
    copy_some(p, all, n);
    return load_vec(all);
}
template <class E> static inline void store_some(E *p, const Vec &v, int64_t n) {
    if (n == kVec) return store_vec(p, v);
    E all[kVec];
    store_vec(all, v);
    copy_some(all, p, n);
}
template <class E> static inline void store_some_exact(E *p, const Vec &v, int64_t n) { store_some(p, v, n); }
#endif
// The same where many lanes may be missing again and again.
template <class E> static inline Vec load_few(const E *p, int64_t n) {
#if defined(SPIKEFED_AVX2)
    if (sizeof(E) == 2 && n < kVec) {
        E all[kVec] = {};
        copy_some(p, all, n);
        return load_vec(all);
    }
#endif
    return load_some(p, n);
}
static inline int count_bits(uint32_t bits) {
#if defined(__GNUC__)
    return __builtin_popcount(bits);
#else
    int n = 0;
    for (; bits; bits &= bits - 1) ++n;
    return n;
#endif
}
// Two vectors of bfloat16 numbers interleaved in one: number i of the first in the low, of the second in the high half of word i.
#if defined(SPIKEFED_AVX512)
static inline void load_pair(const uint32_t *p, Vec &low, Vec &high) {
    const __m512i words = _mm512_loadu_si512(p);
    low = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    high = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}
#elif defined(SPIKEFED_AVX2)
static inline void load_pair(const uint32_t *p, Vec &low, Vec &high) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
    low = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
    high = _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}
#else
static inline void load_pair(const uint32_t *p, Vec &low, Vec &high) {
    uint32_t first[kVec], second[kVec];
    for (int i = 0; i < kVec; ++i) first[i] = p[i] << 16, second[i] = p[i] & 0xffff0000u;
    memcpy(&low, first, sizeof first);
    memcpy(&high, second, sizeof second);
}
#endif

#if defined(SPIKEFED_AVX512)
static inline void list16(uint32_t bits, uint16_t first, uint16_t *to) { // first + i for each bit i; writes 16 entries
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i chosen = _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), lanes);
    const __m256i entries = _mm256_add_epi16(_mm512_cvtepi32_epi16(chosen), _mm256_set1_epi16(static_cast<int16_t>(first)));
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), entries);
}
static inline void values16(uint32_t bits, const float *from, float *to) {
    _mm512_storeu_ps(to, _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), _mm512_loadu_ps(from)));
}
static inline void values16(uint32_t bits, const uint16_t *from, float *to) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
    _mm512_storeu_ps(to, _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))));
}
static inline void values16(uint32_t, const uint8_t *, float *) {} // bytes have no values
static inline __m512 sum_pairs(__m512 a, __m512 b) { return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); }
static inline void add_lanes4(__m512 a, __m512 b, __m512 c, __m512 d, float *to) { // to[i] += sum of the lanes of the i-th
    const __m512 ac = sum_pairs(a, c), bd = sum_pairs(b, d), all = sum_pairs(ac, bd); // each 128 bits: parts of a, b, c, d
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), four));
}
#elif defined(SPIKEFED_AVX2)
// For each byte the places of its ones, in order.
struct Places {
    uint8_t of[256][8];
    constexpr Places() : of() {
        for (int bits = 0; bits < 256; ++bits)
            for (int i = 0, n = 0; i < 8; ++i)
                if (bits >> i & 1) of[bits][n++] = static_cast<uint8_t>(i);
    }
};
static constexpr Places kPlaces;
static inline __m128i places(uint32_t byte) { return _mm_loadl_epi64(reinterpret_cast<const __m128i *>(kPlaces.of[byte])); }
static inline void list16(uint32_t bits, uint16_t first, uint16_t *to) {
    const uint32_t low = bits & 255, high = bits >> 8;
    const auto put = [](uint32_t byte, int from, uint16_t *at) {
        const __m128i entries = _mm_add_epi16(_mm_cvtepu8_epi16(places(byte)), _mm_set1_epi16(static_cast<int16_t>(from)));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(at), entries);
    };
    put(low, first, to);
    put(high, first + 8, to + count_bits(low));
}
template <class E> static inline void values16(uint32_t bits, const E *from, float *to) {
    const uint32_t low = bits & 255, high = bits >> 8;
    store_vec(to, _mm256_permutevar8x32_ps(load_vec(from), _mm256_cvtepu8_epi32(places(low))));
    store_vec(to + count_bits(low), _mm256_permutevar8x32_ps(load_vec(from + 8), _mm256_cvtepu8_epi32(places(high))));
}
static inline void values16(uint32_t, const uint8_t *, float *) {} // bytes have no values
static inline __m256 sum_pairs(__m256 a, __m256 b) { return _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)); }
static inline void add_lanes4(__m256 a, __m256 b, __m256 c, __m256 d, float *to) { // to[i] += sum of the lanes of the i-th
    const __m256 all = sum_pairs(sum_pairs(a, c), sum_pairs(b, d)); // each 128 bits: parts of a, b, c, d
    _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1))));
}
#else
static inline void list16(uint32_t bits, uint16_t first, uint16_t *to) {
    for (int i = 0; i < 16; ++i) {
        *to = static_cast<uint16_t>(first + i);
        to += bits >> i & 1u;
    }
}
template <class E> static inline void values16(uint32_t bits, const E *from, float *to) {
    for (int i = 0; i < 16; ++i) {
        *to = load(from[i]);
        to += bits >> i & 1u;
    }
}
static inline void add_lanes4(const Vec &a, const Vec &b, const Vec &c, const Vec &d, float *to) {
    to[0] += sum_lanes(a), to[1] += sum_lanes(b), to[2] += sum_lanes(c), to[3] += sum_lanes(d);
}
#endif
// The bits of the vector that begins with this element, among the bits of all.
static SPIKEFED_INLINE void put_bits(uint32_t bits, uint8_t *all, int64_t element) {
    uint8_t *to = all + element / 8;
    if (kVec == 16) to[1] = static_cast<uint8_t>(bits >> 8);
    if (kVec >= 8)
        *to = static_cast<uint8_t>(bits);
    else
        *to = static_cast<uint8_t>(element % 8 ? *to | bits << element % 8 : bits);
}
// The first n bits as bytes 0 or 1.
static SPIKEFED_INLINE void spread_bits(uint32_t bits, uint8_t *to, int64_t n) {
#if defined(SPIKEFED_AVX512)
    if (n == kVec) return _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm_maskz_set1_epi8(static_cast<__mmask16>(bits), 1));
#elif defined(SPIKEFED_AVX2)
    if (n == kVec) { // byte i gets bit i where it stood, then a carry out of all lower ones
        const uint64_t each = 0x0101010101010101u, alone = (bits & 255u) * each & 0x8040201008040201u;
        const uint64_t bytes = (alone + 0x7f * each) >> 7 & each;
        memcpy(to, &bytes, sizeof bytes);
        return;
    }
#endif
    for (int64_t j = 0; j < n; ++j) to[j] = bits >> j & 1u;
}
static inline int64_t lowest_bit(uint32_t bits) { // bits is not 0
#if defined(__GNUC__)
    return __builtin_ctz(bits);
#else
    int64_t i = 0;
    while (!(bits >> i & 1u)) ++i;
    return i;
#endif
}
static constexpr int64_t kMaxBlock = kVec == 16 ? 256 : kVec == 8 ? 64 : 32; // output channels held in registers
static constexpr int64_t kBandPixels = 512; // of a band's padded buffer: 32 KB at 16 channels
static constexpr int64_t kFewBlocks = 16;   // blocks of output channels padded at a time
static constexpr int64_t kPieces = 16;      // least pieces of the weight gradient (fixed: results do not depend on threads)
