// Weight gradients of single samples compiled for: avx512.
#include "common.h"
#include "samples.h"
#include "begin_avx512.inl"
#ifdef SPIKEFED_AVX512
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
#include "end.inl"
#endif
