// Products with sparse weights compiled for: avx512.
#include "common.h"
#include "pruned.h"
#include "synapses.h"
#include "begin_avx512.inl"
#ifdef SPIKEFED_AVX512
namespace spikefed {
namespace avx512 {
namespace {
#include "scalars.inl"
#include "vectors.inl"
#include "synapses.inl"
#include "pruned_steps.inl"
#include "pruned.inl"
} // namespace
void sparse_product(const Synapses &a) { synapses(a); }
void pruned_layers(const Pruned &a) { pruned(a); }
} // namespace avx512
} // namespace spikefed
#include "end.inl"
#endif
