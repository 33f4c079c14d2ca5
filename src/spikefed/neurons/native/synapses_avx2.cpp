// Products with sparse weights compiled for: avx2.
#include "common.h"
#include "pruned.h"
#include "synapses.h"
#include "begin_avx2.inl"
#ifdef SPIKEFED_AVX2
namespace spikefed {
namespace avx2 {
namespace {
#include "scalars.inl"
#include "vectors.inl"
#include "synapses.inl"
#include "pruned_steps.inl"
#include "pruned.inl"
} // namespace
void sparse_product(const Synapses &a) { synapses(a); }
void pruned_layers(const Pruned &a) { pruned(a); }
} // namespace avx2
} // namespace spikefed
#include "end.inl"
#endif
