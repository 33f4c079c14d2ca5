// The one argument record of the fused normalisation + LIF + pool kernels; mirrored field by field in neurons/fused.py.
//
// Layout: x is [T, S, C] (S = B*H*W pixels in channels-last order, or B rows of a linear layer), [S, C] when `repeat`.
// Spikes are [T, S, C], or [T, B*(H/2)*(W/2), C] when `pool`. Element type: float32 (dtype 0) or bfloat16 (dtype 1).
// "Groups" G: 1 when statistics are shared by all steps, T when each step has its own.
#pragma once
#include <cstdint>

namespace spikefed {

struct NormLif {
    const void *x;
    void *out;                // forward: spikes
    const void *grad_out;     // backward: gradient of `out`
    void *grad_x;             // backward: gradient of x
    const float *weight;      // [G, C] or null (1)
    const float *bias;        // [G, C] or null (0)
    float *running_mean;      // [G, C] or null
    float *running_var;       // [G, C] or null
    float *mean;              // [G, C] forward out, backward in: the statistics used
    float *rstd;              // [G, C] forward out, backward in: 1 / sqrt(var + eps)
    float *grad_weight;       // [G, C] backward out, null = not wanted
    float *grad_bias;         // [G, C] backward out, null = not wanted
    uint8_t *window;          // forward out or null: per element of `out`, 1 where the surrogate of a neuron under it is not zero
    uint8_t *bits;            // forward out or null: a bit an element of `out`, 1 = not zero; only where channels are whole sixteens
    int64_t *nonzero;         // forward out: number of non-zero elements of `out`
    int64_t *inside;          // forward out, with `window`: number of its ones
    int64_t steps, rows, channels, height, width; // height, width: only read when pooling
    int32_t dtype, norm;      // norm: 0 none, 1 shared statistics, 2 per-step statistics
    int32_t batch_statistics; // 1 = of this batch, 0 = the running ones
    int32_t pool, repeat, soft, surrogate, detach_reset, threads;
    float decay, theta, fire; // fire: the smallest potential that fires
    float gain, scale, eps, momentum, surrogate_a, surrogate_b;
};

// Entry points of one instruction-set variant.
struct NormLifKernels {
    void (*forward)(const NormLif &);
    void (*backward)(const NormLif &);
};

} // namespace spikefed
