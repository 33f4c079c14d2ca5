// Products with sparse weights compiled for: portable.
#include "common.h"
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
} // namespace
void sparse_product(const Synapses &a) { synapses(a); }
} // namespace portable
} // namespace spikefed
