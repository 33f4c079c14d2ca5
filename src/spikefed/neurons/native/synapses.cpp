// Products with sparse weights: the entry, for the instruction set in use.
#include "common.h"
#include "pruned.h"
#include "synapses.h"

SPIKEFED_API int32_t spikefed_level();

namespace spikefed {
namespace portable { void sparse_product(const Synapses &); void pruned_layers(const Pruned &); }
#if defined(__GNUC__) && defined(__x86_64__)
namespace avx2 { void sparse_product(const Synapses &); void pruned_layers(const Pruned &); }
namespace avx512 { void sparse_product(const Synapses &); void pruned_layers(const Pruned &); }
#endif
} // namespace spikefed

SPIKEFED_API void spikefed_synapses(const spikefed::Synapses *a) {
#if defined(__GNUC__) && defined(__x86_64__)
    if (spikefed_level() == 2) return spikefed::avx512::sparse_product(*a);
    if (spikefed_level() == 1) return spikefed::avx2::sparse_product(*a);
#endif
    spikefed::portable::sparse_product(*a);
}
SPIKEFED_API int64_t spikefed_synapses_size() { return sizeof(spikefed::Synapses); }

SPIKEFED_API void spikefed_pruned(const spikefed::Pruned *a) {
#if defined(__GNUC__) && defined(__x86_64__)
    if (spikefed_level() == 2) return spikefed::avx512::pruned_layers(*a);
    if (spikefed_level() == 1) return spikefed::avx2::pruned_layers(*a);
#endif
    spikefed::portable::pruned_layers(*a);
}
SPIKEFED_API int64_t spikefed_pruned_size() { return sizeof(spikefed::Pruned); }
SPIKEFED_API int64_t spikefed_pruned_layer_size() { return sizeof(spikefed::PrunedLayer); }
