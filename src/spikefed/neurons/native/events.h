// Argument record of the event-list kernels; mirrored in neurons/events.py.
//
// An event is a non-zero of a channels-last map x [N, H, W, Ci]. Two lists of them:
//   by pixel (forward)   `offsets` says where each pixel's events begin; entry = column * Ci + channel
//   by band (backward)   `start` says where the events of each band and channel begin; entry = position in the band's padded buffer
// Bands (some images, or some rows of one image) are explained in events.inl.
#pragma once
#include <cstdint>

namespace spikefed {

struct Events {
    const void *x;      // [N, H, W, Ci]
    const void *go;     // [N, H2, W2, Co] gradient of the output (backward); H2 = (H - 1) / stride + 1
    void *out;          // [N, H2, W2, Co] forward result, or [N, H, W, Ci] input gradient
    float *weight;      // forward in: [Co, Ci, places]; else [Cp / 16, Ci, K, K, 16], Cp = Co rounded up to kEventLanes = 16
    const float *bias;  // [Co] or null
    int32_t *offsets;   // [N*H*W + 1]
    uint16_t *index;    // [events], by pixel
    float *value;       // [events], by pixel, or null: every event is 1
    int32_t *start;     // [bands * Ci + 1]; with stride 2 [bands * Ci * 4 + 1]: by band, channel, parity of row and column
    uint16_t *position; // [events], by band
    float *banded;      // [events] values by band, or null: every event is 1
    uint16_t *mask;     // [N*H*W, (Ci + 15) / 16] made by count for list: one bit per element, 1 = not zero; given where x is null
    int32_t *binary;    // count out: 1 if every non-zero is 1; untouched where x is null
    int64_t images, height, width, in_channels, out_channels, kernel, stride, events; // stride 1 or 2 (input_grad: 1)
    int64_t places;     // K * K; of maps of one pixel, which have P pixels flattened as [P, Ci / P]: P
    int32_t dtype;      // of x, go, out: 0 float32, 1 bfloat16; 2: x is bytes of 0 and 1 (a window, to be listed)
    int32_t threads;
};

struct EventKernels {
    int64_t (*bands)(const Events &);     // number of bands
    void (*count)(const Events &);        // fills offsets, mask, binary
    void (*list)(const Events &);         // fills index, value (after count)
    void (*band)(const Events &);         // fills start, position, banded (from the list by pixel)
    void (*forward)(const Events &);      // out = conv(x, weight) + bias, padding (K - 1) / 2
    void (*weight_grad)(const Events &);  // weight = gradient
    void (*rows_grad)(const Events &);    // the same of maps of one pixel: weight [Co, Ci / places, places] = gradient, go [N, Co]
    void (*input_grad)(const Events &);   // out [N, H, W, Ci] = gradient at the listed elements, 0 elsewhere
};

constexpr int64_t kEventLanes = 16;

} // namespace spikefed
