// [N, S, C] -> [N, C, S]: the flatten of a channels-last map in C, H, W order, and its inverse (swap S and C).
#include "common.h"
#include "square.h"

namespace {
// A square of kSide x kSide elements, transposed: 16 bytes a row.
template <class E> constexpr int64_t kSide = 16 / sizeof(E);

void square(const uint32_t *from, int64_t columns, uint32_t *to, int64_t rows) { spikefed::square(from, columns, to, rows); }
#ifdef SPIKEFED_SSE2
inline __m128i row_at(const void *p) { return _mm_loadu_si128(static_cast<const __m128i *>(p)); }

void square(const uint16_t *from, int64_t columns, uint16_t *to, int64_t rows) {
    __m128i x[8], y[8]; // pairs of rows, then fours, then all eight side by side
    for (int i = 0; i < 8; ++i) x[i] = row_at(from + i * columns);
    for (int i = 0; i < 4; ++i) {
        y[i] = _mm_unpacklo_epi16(x[2 * i], x[2 * i + 1]);
        y[i + 4] = _mm_unpackhi_epi16(x[2 * i], x[2 * i + 1]);
    }
    for (int h = 0; h < 2; ++h) // h: columns 0 to 3, 4 to 7
        for (int i = 0; i < 2; ++i) {
            x[4 * h + i] = _mm_unpacklo_epi32(y[4 * h + 2 * i], y[4 * h + 2 * i + 1]);
            x[4 * h + 2 + i] = _mm_unpackhi_epi32(y[4 * h + 2 * i], y[4 * h + 2 * i + 1]);
        }
    for (int i = 0; i < 4; ++i) {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + 2 * i * rows), _mm_unpacklo_epi64(x[2 * i], x[2 * i + 1]));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + (2 * i + 1) * rows), _mm_unpackhi_epi64(x[2 * i], x[2 * i + 1]));
    }
}
#else
void square(const uint16_t *from, int64_t columns, uint16_t *to, int64_t rows) {
    for (int64_t c = 0; c < 8; ++c)
        for (int64_t r = 0; r < 8; ++r) to[c * rows + r] = from[r * columns + c];
}
#endif

// Rows from which the lines that a strip of columns touches leave the cache before the next strip wants the rest of them.
constexpr int64_t kTall = 1024;
constexpr int64_t kBand = 32;

template <class E> void strip(const E *from, E *to, int64_t rows, int64_t columns, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    constexpr int64_t side = kSide<E>;
    int64_t r = r0;
    for (; c1 - c0 == side && r + side <= r1; r += side) square(from + r * columns + c0, columns, to + c0 * rows + r, rows);
    for (; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c) to[c * rows + r] = from[r * columns + c];
}

// A piece of work is a strip of `side` columns; of tall matrices a whole cache line of them, a band of rows at a time.
template <class E> void transpose(const E *from, E *to, int64_t n, int64_t rows, int64_t columns, int threads) {
    constexpr int64_t side = kSide<E>;
    const bool tall = rows >= kTall && columns > 4 * side;
    const int64_t wide = tall ? 4 * side : side, band = tall ? kBand : rows;
    const int64_t strips = (columns + wide - 1) / wide;
    spikefed::parallel(n * strips, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t c0 = i % strips * wide, c1 = c0 + wide < columns ? c0 + wide : columns;
            const E *a = from + i / strips * rows * columns;
            E *b = to + i / strips * rows * columns;
            for (int64_t r = 0; r < rows; r += band)
                for (int64_t c = c0; c < c1; c += side)
                    strip(a, b, rows, columns, r, r + band < rows ? r + band : rows, c, c + side < c1 ? c + side : c1);
        }
    });
}
} // namespace

// `size`: bytes of an element, 2 or 4.
SPIKEFED_API void spikefed_transpose(const void *from, void *to, int64_t n, int64_t rows, int64_t columns, int32_t size, int32_t threads) {
    if (size == 2)
        transpose(static_cast<const uint16_t *>(from), static_cast<uint16_t *>(to), n, rows, columns, threads);
    else
        transpose(static_cast<const uint32_t *>(from), static_cast<uint32_t *>(to), n, rows, columns, threads);
}
