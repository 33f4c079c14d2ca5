// A square of 4 x 4 numbers of 32 bits, transposed: the step of which every change of order in memory is made.
#pragma once
#include <cstdint>
#if defined(__SSE2__) || defined(_M_X64)
#define SPIKEFED_SSE2 1
#include <emmintrin.h>
#endif

namespace spikefed {

// Rows of `from` lie `columns` numbers apart, those of `to` `rows`.
#ifdef SPIKEFED_SSE2
inline void square(const void *from, int64_t columns, void *to, int64_t rows) {
    const auto row = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(static_cast<const uint32_t *>(from) + i * columns)); };
    const __m128i a = row(0), b = row(1), c = row(2), d = row(3);
    const __m128i ab = _mm_unpacklo_epi32(a, b), AB = _mm_unpackhi_epi32(a, b), cd = _mm_unpacklo_epi32(c, d), CD = _mm_unpackhi_epi32(c, d);
    const __m128i out[4] = {_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd), _mm_unpacklo_epi64(AB, CD), _mm_unpackhi_epi64(AB, CD)};
    for (int i = 0; i < 4; ++i) _mm_storeu_si128(reinterpret_cast<__m128i *>(static_cast<uint32_t *>(to) + i * rows), out[i]);
}
#else
inline void square(const void *from, int64_t columns, void *to, int64_t rows) {
    for (int64_t c = 0; c < 4; ++c)
        for (int64_t r = 0; r < 4; ++r) static_cast<uint32_t *>(to)[c * rows + r] = static_cast<const uint32_t *>(from)[r * columns + c];
}
#endif

} // namespace spikefed
