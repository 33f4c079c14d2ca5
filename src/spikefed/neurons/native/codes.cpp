// How many neurons fire for both of two images, of all pairs: codes packed to bits, then counted 512 at a time.
#include "common.h"
#include <cstring>
#include <vector>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define SPIKEFED_WIDE __attribute__((target("avx512f,avx512bw,avx512vpopcntdq")))

namespace {
constexpr int64_t kBits = 512;

// `words` of 512 bits for each image, zeros behind its last neuron; the order of bits is of no matter.
SPIKEFED_WIDE void pack(const float *x, int64_t images, int64_t neurons, int64_t words, uint16_t *bits) {
    memset(bits, 0, static_cast<size_t>(images * words * kBits / 8));
    for (int64_t i = 0; i < images; ++i) {
        const float *from = x + i * neurons;
        uint16_t *to = bits + i * words * (kBits / 16);
        int64_t n = 0;
        for (; n + 16 <= neurons; n += 16) to[n / 16] = _mm512_cmp_ps_mask(_mm512_loadu_ps(from + n), _mm512_setzero_ps(), _CMP_NEQ_UQ);
        if (n < neurons) {
            const __mmask16 left = static_cast<__mmask16>((1u << (neurons - n)) - 1);
            to[n / 16] = _mm512_cmp_ps_mask(_mm512_maskz_loadu_ps(left, from + n), _mm512_setzero_ps(), _CMP_NEQ_UQ);
        }
    }
}

SPIKEFED_WIDE void count(const uint16_t *bits, int64_t images, int64_t words, int32_t *both) {
    const int64_t pitch = words * (kBits / 16);
    for (int64_t i = 0; i < images; ++i)
        for (int64_t j = i; j < images; j += 4) {
            __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
            const int64_t n = images - j < 4 ? images - j : 4;
            const uint16_t *other[4];
            for (int64_t k = 0; k < 4; ++k) other[k] = bits + (k < n ? j + k : j) * pitch;
            for (int64_t w = 0; w < pitch; w += kBits / 16) {
                const __m512i own = _mm512_loadu_si512(bits + i * pitch + w);
                for (int64_t k = 0; k < 4; ++k)
                    sum[k] = _mm512_add_epi64(sum[k], _mm512_popcnt_epi64(_mm512_and_si512(own, _mm512_loadu_si512(other[k] + w))));
            }
            for (int64_t k = 0; k < n; ++k) {
                const int32_t all = static_cast<int32_t>(_mm512_reduce_add_epi64(sum[k]));
                both[i * images + j + k] = all;
                both[(j + k) * images + i] = all;
            }
        }
}
} // namespace

// `x` [steps, images, neurons], 0 or not; `both` [steps, images, images]. 0: this processor does not count bits in vectors.
SPIKEFED_API int32_t spikefed_fire_both(const float *x, int64_t steps, int64_t images, int64_t neurons, int32_t *both) {
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vpopcntdq")) return 0;
    const int64_t words = (neurons + kBits - 1) / kBits;
    std::vector<uint16_t> bits(static_cast<size_t>(images * words * (kBits / 16)));
    for (int64_t t = 0; t < steps; ++t) {
        pack(x + t * images * neurons, images, neurons, words, bits.data());
        count(bits.data(), images, words, both + t * images * images);
    }
    return 1;
}
#else
SPIKEFED_API int32_t spikefed_fire_both(const float *, int64_t, int64_t, int64_t, int32_t *) { return 0; }
#endif
