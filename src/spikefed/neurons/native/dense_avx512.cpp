// Dense products compiled for: avx512.
#include "common.h"
#include "linear.h"
#include "optimiser.h"
#include "winograd.h"
#include "begin_avx512.inl"
#ifdef SPIKEFED_AVX512
namespace spikefed {
namespace avx512 {
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
} // namespace avx512
} // namespace spikefed
#include "end.inl"
#endif
