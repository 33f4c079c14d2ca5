// Chooses the instruction set once, at load, and holds the entry points Python calls.
#include "common.h"
#include "norm_lif.h"
#include <cstdlib>
#include <cstring>

#if defined(__GNUC__) && defined(__x86_64__)
#define SPIKEFED_X86 1
#endif

namespace spikefed {
namespace portable { extern const NormLifKernels norm_lif_kernels; }
#ifdef SPIKEFED_X86
namespace avx2 { extern const NormLifKernels norm_lif_kernels; }
namespace avx512 { extern const NormLifKernels norm_lif_kernels; }
#endif

namespace {
int best_level() {
#ifdef SPIKEFED_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}
int level = best_level();

const NormLifKernels &kernels() {
#ifdef SPIKEFED_X86
    if (level == 2) return avx512::norm_lif_kernels;
    if (level == 1) return avx2::norm_lif_kernels;
#endif
    return portable::norm_lif_kernels;
}
} // namespace
} // namespace spikefed

// 0 portable, 1 AVX2, 2 AVX-512: the best this processor has / the one in use. Setting is for tests; it never goes above the best.
SPIKEFED_API int32_t spikefed_best_level() { return spikefed::best_level(); }
SPIKEFED_API int32_t spikefed_level() { return spikefed::level; }
SPIKEFED_API void spikefed_set_level(int32_t wanted) {
    const int best = spikefed::best_level();
    spikefed::level = wanted < 0 ? 0 : (wanted < best ? wanted : best);
}

SPIKEFED_API void spikefed_norm_lif_forward(const spikefed::NormLif *a) { spikefed::kernels().forward(*a); }
SPIKEFED_API void spikefed_norm_lif_backward(const spikefed::NormLif *a) { spikefed::kernels().backward(*a); }
SPIKEFED_API int64_t spikefed_norm_lif_size() { return sizeof(spikefed::NormLif); }
