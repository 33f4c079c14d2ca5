// Weight gradients of single samples: the entry, for the instruction set in use.
#include "samples.h"
#include "common.h"

SPIKEFED_API int32_t spikefed_level();

namespace spikefed {
namespace portable { void sample_gradients(const Samples &); }
#if defined(__GNUC__) && defined(__x86_64__)
namespace avx2 { void sample_gradients(const Samples &); }
namespace avx512 { void sample_gradients(const Samples &); }
#endif
} // namespace spikefed

SPIKEFED_API void spikefed_samples(const spikefed::Samples *a) {
#if defined(__GNUC__) && defined(__x86_64__)
    if (spikefed_level() == 2) return spikefed::avx512::sample_gradients(*a);
    if (spikefed_level() == 1) return spikefed::avx2::sample_gradients(*a);
#endif
    spikefed::portable::sample_gradients(*a);
}
SPIKEFED_API int64_t spikefed_samples_size() { return sizeof(spikefed::Samples); }
