// Weight gradients of single samples compiled for: avx512.
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
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")
#endif
#define SPIKEFED_AVX512 1
namespace spikefed {
namespace avx512 {
namespace {
#include "scalars.inl"
#include "vectors.inl"
#include "samples.inl"
} // namespace
void sample_gradients(const Samples &a) { samples(a); }
} // namespace avx512
} // namespace spikefed
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
