// Chooses the instruction set once, at load, and holds the entry points Python calls.
#include "kernels.h"
#include <cstdlib>
#include <cstring>

#if defined(__GNUC__) && defined(__x86_64__)
#define SPIKEFED_X86 1
#include <cpuid.h>
#endif

namespace spikefed {
namespace portable {
extern const NormLifKernels norm_lif_kernels;
extern const EventKernels event_kernels;
extern const StepKernels step_kernels;
extern const PatternKernels pattern_kernels;
} // namespace portable
#ifdef SPIKEFED_X86
#define SPIKEFED_DECLARE(variant) \
    namespace variant { \
    extern const NormLifKernels norm_lif_kernels; \
    extern const EventKernels event_kernels; \
    extern const StepKernels step_kernels; \
    extern const PatternKernels pattern_kernels; \
    extern const WinogradKernels winograd_kernels; \
    extern const LinearKernels linear_kernels; \
    extern const OptimiserKernels optimiser_kernels; \
    const Kernels kernels{&norm_lif_kernels, &event_kernels, &step_kernels, &pattern_kernels, \
                          &winograd_kernels, &linear_kernels, &optimiser_kernels}; \
    }
SPIKEFED_DECLARE(avx2)
SPIKEFED_DECLARE(avx512)
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
} // namespace

Kernels kernels_in_use() {
#ifdef SPIKEFED_X86
    if (level == 2) return avx512::kernels;
    if (level == 1) return avx2::kernels;
#endif
    return Kernels{&portable::norm_lif_kernels, &portable::event_kernels, &portable::step_kernels, &portable::pattern_kernels, nullptr, nullptr, nullptr};
}
} // namespace spikefed

// 0 portable, 1 AVX2, 2 AVX-512: the best this processor has / the one in use. Setting is for tests; it never goes above the best.
SPIKEFED_API int32_t spikefed_best_level() { return spikefed::best_level(); }
SPIKEFED_API int32_t spikefed_level() { return spikefed::level; }
SPIKEFED_API void spikefed_set_level(int32_t wanted) {
    const int best = spikefed::best_level();
    spikefed::level = wanted < 0 ? 0 : (wanted < best ? wanted : best);
}

// 1 if the processor has bf16 matrix tiles (AMX).
SPIKEFED_API int32_t spikefed_has_amx() {
#ifdef SPIKEFED_X86
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) return (d >> 22 & 1) && (d >> 24 & 1);
#endif
    return 0;
}

SPIKEFED_API void spikefed_norm_lif_forward(const spikefed::NormLif *a) { spikefed::kernels_in_use().norm_lif->forward(*a); }
SPIKEFED_API void spikefed_norm_lif_backward(const spikefed::NormLif *a) { spikefed::kernels_in_use().norm_lif->backward(*a); }
SPIKEFED_API int64_t spikefed_norm_lif_size() { return sizeof(spikefed::NormLif); }

SPIKEFED_API void spikefed_patterns_forward(const spikefed::Patterns *a) { spikefed::kernels_in_use().patterns->forward(*a); }
SPIKEFED_API void spikefed_patterns_backward(const spikefed::Patterns *a) { spikefed::kernels_in_use().patterns->backward(*a); }
SPIKEFED_API int64_t spikefed_patterns_size() { return sizeof(spikefed::Patterns); }

SPIKEFED_API int64_t spikefed_events_bands(const spikefed::Events *a) { return spikefed::kernels_in_use().events->bands(*a); }
SPIKEFED_API void spikefed_events_count(const spikefed::Events *a) { spikefed::kernels_in_use().events->count(*a); }
SPIKEFED_API void spikefed_events_list(const spikefed::Events *a) { spikefed::kernels_in_use().events->list(*a); }
SPIKEFED_API void spikefed_events_band(const spikefed::Events *a) { spikefed::kernels_in_use().events->band(*a); }
SPIKEFED_API void spikefed_events_forward(const spikefed::Events *a) { spikefed::kernels_in_use().events->forward(*a); }
SPIKEFED_API void spikefed_events_weight_grad(const spikefed::Events *a) { spikefed::kernels_in_use().events->weight_grad(*a); }
SPIKEFED_API void spikefed_events_rows_grad(const spikefed::Events *a) { spikefed::kernels_in_use().events->rows_grad(*a); }
SPIKEFED_API void spikefed_events_input_grad(const spikefed::Events *a) { spikefed::kernels_in_use().events->input_grad(*a); }
SPIKEFED_API int64_t spikefed_events_size() { return sizeof(spikefed::Events); }

SPIKEFED_API void spikefed_step_sum(const spikefed::StepSum *a) { spikefed::kernels_in_use().steps->sum(*a); }
SPIKEFED_API void spikefed_step_sum_backward(const spikefed::StepSum *a) { spikefed::kernels_in_use().steps->sum_backward(*a); }
SPIKEFED_API void spikefed_step_norm(const spikefed::StepNorm *a) { spikefed::kernels_in_use().steps->norm(*a); }
SPIKEFED_API void spikefed_step_norm_backward(const spikefed::StepNorm *a) { spikefed::kernels_in_use().steps->norm_backward(*a); }
SPIKEFED_API void spikefed_join(const spikefed::Join *a) { spikefed::kernels_in_use().steps->join(*a); }
SPIKEFED_API void spikefed_join_backward(const spikefed::Join *a) { spikefed::kernels_in_use().steps->join_backward(*a); }
SPIKEFED_API int64_t spikefed_join_size() { return sizeof(spikefed::Join); }
SPIKEFED_API int64_t spikefed_step_sum_size() { return sizeof(spikefed::StepSum); }
SPIKEFED_API int64_t spikefed_step_norm_size() { return sizeof(spikefed::StepNorm); }

SPIKEFED_API int32_t spikefed_has_winograd() { return spikefed::kernels_in_use().winograd != nullptr; }
SPIKEFED_API void spikefed_winograd(const spikefed::Winograd *a) { spikefed::kernels_in_use().winograd->convolve(*a); }
SPIKEFED_API void spikefed_winograd_weight_grad(const spikefed::Winograd *a) { spikefed::kernels_in_use().winograd->weight_grad(*a); }
SPIKEFED_API void spikefed_direct_weight_grad(const spikefed::Winograd *a) { spikefed::kernels_in_use().winograd->direct_weight_grad(*a); }
SPIKEFED_API int64_t spikefed_winograd_size() { return sizeof(spikefed::Winograd); }

SPIKEFED_API void spikefed_adam(const spikefed::OptimiserStep *step, const spikefed::Moved *tensors, int64_t count) {
    spikefed::kernels_in_use().optimiser->adam(*step, tensors, count);
}
SPIKEFED_API void spikefed_sgd(const spikefed::OptimiserStep *step, const spikefed::Moved *tensors, int64_t count) {
    spikefed::kernels_in_use().optimiser->sgd(*step, tensors, count);
}
