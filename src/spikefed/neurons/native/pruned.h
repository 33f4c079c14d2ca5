// Argument records of pruned layers in a row, for inference; mirrored in neurons/pruned.py.
#pragma once
#include <cstdint>

namespace spikefed {

// out = pool(LIF(conv(x, weight) * slope + offset)): stride 1, padding (K - 1) / 2, odd K, float32. Maps are planar; a linear layer is K = H = W = 1
// with C inputs. Inside a layer maps have a border of zeros: rows of `pitch` numbers, planes of `plane`; the steps of a channel, up to eight of them
// (`slots`), lie side by side: [C, slots, plane].
struct PrunedLayer {
    // The weights that are not zero: by output channel, with the distance of the input from the sum's place; by input channel, the other way.
    const int32_t *outputs; // [Co + 1]: where those of each output channel begin
    const int32_t *from;    // [weights]: input channel * slots * plane + row of the kernel * pitch + column
    const float *gathered;  // [weights]
    const int32_t *inputs;  // [groups * Ci + 1]: of each group of output channels
    const int32_t *to;      // [weights]: output channel in its group * plane + (pad - row) * pitch + pad - column
    const float *scattered; // [weights]
    const float *slope;     // [G, Co]: normalisation, the neurons' gain and the inputs' share in one; G is 1 or T
    const float *offset;    // [G, Co]: bias too
    int64_t next;           // numbers from a step's slope and offset to the next step's: 0 or Co
    int64_t group;          // output channels whose sums are made together by event
    int64_t in_channels, height, width, out_channels, kernel, pitch, plane;
    int32_t fires, soft, pool; // fires 0: the output is what neurons would get
    float decay, theta, fire;
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
