// [N, S, C] -> [N, C, S]: the flatten of a channels-last map in C, H, W order, and its inverse (swap S and C).
#include "common.h"

namespace {
template <class E> void transpose(const E *from, E *to, int64_t n, int64_t rows, int64_t columns, int threads) {
    constexpr int64_t kBlock = 32;
    const int64_t strips = (columns + kBlock - 1) / kBlock;
    spikefed::parallel(n * strips, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const E *__restrict a = from + i / strips * rows * columns;
            E *__restrict b = to + i / strips * rows * columns;
            const int64_t c0 = i % strips * kBlock, c1 = c0 + kBlock < columns ? c0 + kBlock : columns;
            for (int64_t r0 = 0; r0 < rows; r0 += kBlock) {
                const int64_t r1 = r0 + kBlock < rows ? r0 + kBlock : rows;
                for (int64_t c = c0; c < c1; ++c)
                    for (int64_t r = r0; r < r1; ++r) b[c * rows + r] = a[r * columns + c];
            }
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
