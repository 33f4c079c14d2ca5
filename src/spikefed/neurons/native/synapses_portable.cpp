// Products with sparse weights compiled for: portable.
#include "common.h"
#include "pruned.h"
#include "synapses.h"
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace spikefed {
namespace portable {
namespace {
#include "scalars.inl"
#include "vectors.inl"
#include "synapses.inl"
#include "pruned_steps.inl"
#include "pruned.inl"
} // namespace
void sparse_product(const Synapses &a) { synapses(a); }
void pruned_layers(const Pruned &a) { pruned(a); }
} // namespace portable
} // namespace spikefed
