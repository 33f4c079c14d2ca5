// The float vector of a variant: Vec, kVec lanes, unaligned load and store, broadcast, fused multiply-add, mask of non-zeros.
#undef SPIKEFED_INLINE
#if defined(__GNUC__)
#define SPIKEFED_INLINE inline __attribute__((always_inline))
#else
#define SPIKEFED_INLINE inline
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
static inline uint32_t nonzero16(const uint16_t *p) {
    uint32_t bits = 0;
    for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>((p[i] & 0x7fff) != 0) << i;
    return bits;
}
static inline uint32_t ones16(const float *p) {
    const __m256 one = _mm256_set1_ps(1.0f);
    const int low = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p), one, _CMP_EQ_OQ));
    return static_cast<uint32_t>(low | _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(p + 8), one, _CMP_EQ_OQ)) << 8);
}
static inline uint32_t ones16(const uint16_t *p) {
    uint32_t bits = 0;
    for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(p[i] == 0x3f80) << i;
    return bits;
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
static inline float sum_lanes(const Vec &v) { return (v.lane[0] + v.lane[2]) + (v.lane[1] + v.lane[3]); }
#endif
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
    for (int i = 0; i < kVec; ++i) {
        const uint32_t bits[2] = {p[i] << 16, p[i] & 0xffff0000u};
        memcpy(&low.lane[i], &bits[0], 4);
        memcpy(&high.lane[i], &bits[1], 4);
    }
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
