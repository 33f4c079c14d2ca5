// Dense products compiled for: avx2.
#include "common.h"
#include "linear.h"
#include "optimiser.h"
#include "winograd.h"
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
#include "multiply.inl"
#include "winograd.inl"
#include "direct.inl"
#include "linear.inl"
#include "optimiser.inl"
} // namespace
extern const WinogradKernels winograd_kernels;
const WinogradKernels winograd_kernels = {winograd_convolve, winograd_weight_grad, direct_weight_grad};
extern const LinearKernels linear_kernels;
const LinearKernels linear_kernels = {linear_forward, linear_input_grad, linear_weight_grad};
extern const OptimiserKernels optimiser_kernels;
const OptimiserKernels optimiser_kernels = {adam, sgd};
} // namespace avx2
} // namespace spikefed
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
