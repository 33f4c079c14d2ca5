// Body of one instruction-set variant: include after defining SPIKEFED_VARIANT (a name) and setting the target pragma.
namespace spikefed {
namespace SPIKEFED_VARIANT {
namespace {
#include "scalars.inl"
#include "vectors.inl"
#include "statistics.inl"
#include "norm_lif.inl"
#include "patterns.inl"
#include "events.inl"
#include "steps.inl"
} // namespace
extern const NormLifKernels norm_lif_kernels;
const NormLifKernels norm_lif_kernels = {forward, backward};
extern const PatternKernels pattern_kernels;
const PatternKernels pattern_kernels = {pattern_forward, pattern_backward};
extern const EventKernels event_kernels;
const EventKernels event_kernels = {events_bands, events_count, events_list, events_band, events_forward, events_weight_grad,
                                    events_rows_grad, events_input_grad};
extern const StepKernels step_kernels;
const StepKernels step_kernels = {step_sum, step_sum_backward, step_norm, step_norm_backward, join, join_backward};
} // namespace SPIKEFED_VARIANT
} // namespace spikefed
