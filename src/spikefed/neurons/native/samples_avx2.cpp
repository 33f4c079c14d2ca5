// Weight gradients of single samples compiled for: avx2.
#include "common.h"
#include "samples.h"
#include <cmath>
#include <cstdlib>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define SPIKEFED_AVX2 1
namespace spikefed {
namespace avx2 {
namespace {
#include "scalars.inl"
#include "vectors.inl"
#include "samples.inl"
} // namespace
void sample_gradients(const Samples &a) { samples(a); }
} // namespace avx2
} // namespace spikefed
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
