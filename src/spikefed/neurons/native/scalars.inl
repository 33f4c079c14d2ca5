// Numbers of 32 and 16 bits, scratch memory. Included once per instruction set, inside a namespace of its own, after <cstdint>,
// <cstdlib>, <cstring>, <cmath>: no standard template may be instantiated here (the linker could then hand a wide-vector copy to a
// machine without wide vectors).

using F32 = float;
using BF16 = uint16_t;

static inline float load(float v) { return v; }
static inline float load(uint16_t v) {
    const uint32_t bits = static_cast<uint32_t>(v) << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static inline float load(uint8_t v) { return static_cast<float>(v); } // bytes of 0 and 1
static inline void store(float *p, float v) { *p = v; }
static inline void store(uint16_t *p, float v) { // round to nearest even
    uint32_t bits;
    memcpy(&bits, &v, 4);
    *p = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
// Memory on a cache-line border (an unaligned vector load that crosses lines costs two).
template <class T> static T *aligned_in(void *raw) {
    const uintptr_t aligned = (reinterpret_cast<uintptr_t>(raw) + 64 + 63) & ~static_cast<uintptr_t>(63);
    reinterpret_cast<void **>(aligned)[-1] = raw;
    return reinterpret_cast<T *>(aligned);
}
template <class T> static T *scratch(int64_t n) { return aligned_in<T>(calloc(1, static_cast<size_t>(n) * sizeof(T) + 128)); } // zeros
template <class T> static T *unset(int64_t n) { return aligned_in<T>(malloc(static_cast<size_t>(n) * sizeof(T) + 128)); }
static void release(void *p) {
    if (p) free(static_cast<void **>(p)[-1]);
}
