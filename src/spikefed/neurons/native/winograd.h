// Argument record of the dense 3x3 convolution by Winograd's minimal filtering; mirrored in neurons/winograd.py.
#pragma once
#include <cstdint>

namespace spikefed {

// Stride 1, padding 1, channels-last. Forward: out = conv(x, weight). Gradient: x is the gradient of a convolution's output, out
// that of its input; `weight` is the convolution's own in both cases.
struct Winograd {
    const void *x;       // [N, H, W, Ci]
    void *out;           // [N, H, W, Co]
    const float *weight; // forward [Co, Ci, 3, 3], gradient [Ci, Co, 3, 3]
    const float *bias;   // [Co] or null
    int64_t images, height, width, in_channels, out_channels;
    int32_t dtype;       // of x and out: 0 float32, 1 bfloat16 (weights are then rounded to it; sums are float32)
    int32_t gradient, threads;
};

using WinogradKernel = void (*)(const Winograd &);

} // namespace spikefed
