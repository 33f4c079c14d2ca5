// Argument record of the linear layer on spikes of small maps, and of a whole layer: product, normalisation, neurons, pool.
// Mirrored in neurons/small.py.
#pragma once
#include "norm_lif.h"
#include <cstdint>

namespace spikefed {

// x is [N, S, C]: S positions of C channels; weights are [F, C * S], the order in which torch flattens a map.
struct Linear {
    const void *x;     // [N, S, C] (input gradient: unused)
    const void *go;    // [N, F] gradient of the output (gradients)
    void *out;         // forward [N, F], input gradient [N, S, C]
    float *weight;     // [F, C * S]: in, or its gradient
    const float *bias; // [F] or null
    int64_t rows, positions, channels, outputs;
    int32_t dtype; // of x, go and out: 0 float32, 1 bfloat16 (weights are then rounded to it; sums are float32)
};

struct LinearKernels {
    void (*forward)(const Linear &);
    void (*input_grad)(const Linear &);
    void (*weight_grad)(const Linear &);
};

// One layer of a chain. Its neurons' x is `currents`, channels-last; without neurons (steps 0) the currents are its output.
struct Layer {
    const void *x;
    void *grad_x;           // backward, of the first layer only; null = not wanted
    float *weight;          // [Co, Ci, 3, 3] or [Co, Ci * H * W]
    const float *bias;      // [Co] or null
    float *grad_weight;     // backward, null = not wanted
    float *grad_bias;       // backward, null = not wanted
    void *currents;         // forward out, backward in
    int64_t images, in_channels, height, width, out_channels; // of the product
    int32_t linear;         // 0: 3x3 convolution, padding 1; 1: linear layer
    NormLif neuron;
};

} // namespace spikefed
