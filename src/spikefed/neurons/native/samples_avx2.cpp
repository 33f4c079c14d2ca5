// Weight gradients of single samples compiled for: avx2.
#include "common.h"
#include "samples.h"
#include "begin_avx2.inl"
#ifdef SPIKEFED_AVX2
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
#include "end.inl"
#endif
