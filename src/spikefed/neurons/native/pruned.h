// Argument records of pruned layers in a row, for inference; mirrored in neurons/pruned.py.
#pragma once
#include <cstdint>

namespace spikefed {

// out = pool(LIF(norm(conv(x, weight) + bias))): stride 1, padding (K - 1) / 2, odd K, float32. Maps are planar, [C, H, W]; a linear layer is
// K = H = W = 1 with C inputs. Inside a layer maps have a border of zeros: rows of `pitch` numbers, planes of `plane`.
struct PrunedLayer {
    // The weights that are not zero: by output channel, with the distance of the input from the sum's place; by input channel, the other way.
    const int32_t *outputs; // [Co + 1]: where those of each output channel begin
    const int32_t *from;    // [weights]: input channel * plane + row of the kernel * pitch + column
    const float *gathered;  // [weights]
    const int32_t *inputs;  // [Ci + 1]
    const int32_t *to;      // [weights]: output channel * plane + (pad - row) * pitch + pad - column
    const float *scattered; // [weights]
    const float *bias;      // [Co] or null
    const float *mean;      // [G, Co] or null: no normalisation; G is 1 or T
    const float *gain;      // [G, Co]
    const float *shift;     // [G, Co]
    int64_t next;           // numbers from a step's mean, gain, shift to the next step's: 0 or Co
    int64_t in_channels, height, width, out_channels, kernel, pitch, plane;
    int32_t fires, soft, pool; // fires 0: the output is what neurons would get
    float decay, theta, fire, neuron_gain;
};

struct Pruned {
    const PrunedLayer *layers;
    const float *x;   // [T, B, C, H, W]; [B, C, H, W] with `repeat`: the same at every step
    float *out;       // [T, B, C, H, W] of the last layer
    int64_t *nonzero; // numbers of `out` that are not zero, where the last layer fires
    int64_t count, samples, steps;
    int32_t repeat, threads;
};

} // namespace spikefed
