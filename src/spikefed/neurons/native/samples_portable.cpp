// Weight gradients of single samples compiled for: portable.
#include "common.h"
#include "samples.h"
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace spikefed {
namespace portable {
namespace {
#include "scalars.inl"
#include "vectors.inl"
#include "samples.inl"
} // namespace
void sample_gradients(const Samples &a) { samples(a); }
} // namespace portable
} // namespace spikefed
