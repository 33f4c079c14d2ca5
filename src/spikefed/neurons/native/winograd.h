// Argument record of the dense 3x3 convolution by Winograd's minimal filtering; mirrored in neurons/winograd.py.
#pragma once
#include <cstdint>

namespace spikefed {

// Stride 1, padding 1, channels-last.
//   forward           out = conv(x, weight) + bias
//   input gradient    out = gradient of the input, from that of the output (`x`); in and out channels are those of x and out
//   weight gradient   weight = its gradient, from the input `x` and the gradient of the output `go`
struct Winograd {
    const void *x;       // [N, H, W, Ci]
    const void *go;      // [N, H, W, Co], weight gradient only
    void *out;           // [N, H, W, Co]; with `sums` [N, H / 2, W / 2, Co], means over 2x2 outputs
    float *weight;       // [Co, Ci, 3, 3]; input gradient: [Ci, Co, 3, 3], the convolution's own
    const float *bias;   // [Co] or null
    double *sums;        // null, or [N, 2, Co]: forward out, of an image's outputs and of their squares; needs one thread, no bias, even sides
    int64_t images, height, width, in_channels, out_channels;
    int32_t dtype;       // of x, go and out: 0 float32, 1 bfloat16 (weights are then rounded to it; sums are float32)
    int32_t gradient;    // 1: input gradient
    int32_t threads;
};

struct WinogradKernels {
    void (*convolve)(const Winograd &);    // forward and input gradient
    void (*weight_grad)(const Winograd &);
    void (*direct_weight_grad)(const Winograd &); // the same without filtering, for few input channels
};

} // namespace spikefed
