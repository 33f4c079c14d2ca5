// Body of one instruction-set variant: include after defining SPIKEFED_VARIANT (a name) and setting the target pragma.
namespace spikefed {
namespace SPIKEFED_VARIANT {
namespace {
#include "norm_lif.inl"
} // namespace
extern const NormLifKernels norm_lif_kernels;
const NormLifKernels norm_lif_kernels = {forward, backward};
} // namespace SPIKEFED_VARIANT
} // namespace spikefed
