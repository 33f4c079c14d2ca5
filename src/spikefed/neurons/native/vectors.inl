// The float vector of a variant: Vec, kVec lanes, unaligned load and store, broadcast, fused multiply-add, mask of non-zeros.
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
static constexpr int64_t kMaxBlock = kVec == 16 ? 256 : kVec == 8 ? 64 : 32; // output channels held in registers
static constexpr int64_t kBandPixels = 512; // pixels of a band of the weight gradient
static constexpr int64_t kParts = 8; // independent partial weight gradients (fixed: results do not depend on threads)
