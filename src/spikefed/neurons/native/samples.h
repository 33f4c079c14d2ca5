// Argument record of the weight gradients of single samples; mirrored in neurons/samples.py.
#pragma once
#include <cstdint>

namespace spikefed {

// Of a 3x3 convolution, stride 1, padding 1, channels-last, float32: what is asked of each sample's weight gradient
// W = sum over steps and positions of g x', which is formed in the cache and never written.
struct Samples {
    const float *x;      // [steps, samples, H, W, Ci]
    const float *go;     // [steps, samples, H, W, Co], the gradient of the convolution's result
    const float *weight; // [Co, Ci, 3, 3]
    double *squares;     // [samples]: the sum of squares of W
    double *met;         // [samples, Co]: the sums of W * weight, which are those of g times the result without its bias
    double *come;        // [samples, Co]: the sums of g
    int64_t steps, samples, height, width, in_channels, out_channels;
    int32_t threads;
};

} // namespace spikefed
