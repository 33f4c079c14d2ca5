// Argument record of products with sparse weights; mirrored in neurons/synapses.py.
#pragma once
#include <cstdint>

namespace spikefed {

// out = conv(x, weight) + bias: stride 1, padding (K - 1) / 2, odd K, channels-last, float32. Of the weights only the non-zeros are
// given, one behind the other in the order of their groups; a linear layer is K = H = W = 1.
//   by_event 1   groups are input channels, `channel` is the output's: a spike adds the weights of its synapses
//   by_event 0   groups are output channels, `channel` is the input's: a weight meets a vector of inputs
struct Synapses {
    const float *x;       // [N, H, W, Ci]
    float *out;           // [N, H, W, Co]
    const float *bias;    // [Co] or null
    const int32_t *start; // [groups + 1]: where the synapses of each group begin
    const int32_t *channel; // [synapses]
    const int32_t *tap;   // [synapses]: row of the kernel * K + column
    const float *value;   // [synapses]
    int64_t images, height, width, in_channels, out_channels, kernel;
    int32_t by_event;
    int32_t threads;
};

} // namespace spikefed
