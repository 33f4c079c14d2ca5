// Argument record of a first layer that sees binary spikes of one channel through a 3x3 kernel; mirrored in neurons/patterns.py.
#pragma once
#include "norm_lif.h"
#include <cstdint>

namespace spikefed {

// A patch of 3x3 binary pixels is one of 512, so the layer's currents are rows of a table, and a map of them is never written.
struct Patterns {
    NormLif neuron;       // how to fire; `out` [T, draws * B, H', W', C], `grad_out` alike, `grad_x` [B, H, W, C]; x is not read
    const float *table;   // [512, C]: the currents of every patch; bit 3 * row + column of its number is that pixel's
    const float *pixels;  // [B, H, W]: a pixel spikes where it is above its random number
    const float *uniform; // [B, draws, T, H, W]
    uint16_t *patch;      // [B, draws, T, H, W]: forward out, backward in
    int64_t images, draws;
};

struct PatternKernels {
    void (*forward)(const Patterns &);
    void (*backward)(const Patterns &);
};

} // namespace spikefed
