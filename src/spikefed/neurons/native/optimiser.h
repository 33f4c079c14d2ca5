// One step of an optimiser over all tensors of a network; mirrored in training/optimisers.py.
#pragma once
#include <cstdint>

namespace spikefed {

// A tensor: its numbers, their gradient, what the optimiser remembers.
struct Moved {
    float *weight;
    const float *grad;
    float *first;  // Adam: mean of the gradients; SGD: momentum buffer or null
    float *second; // Adam: mean of their squares
    float *steps;  // Adam: one number, the steps made
    int64_t count;
    int64_t started; // SGD: 0 at the first step, which fills the buffer
};

struct OptimiserStep {
    double lr, beta1, beta2, eps, weight_decay; // SGD: beta1 is the momentum
    int32_t decoupled;                          // Adam: weight decay of AdamW
};

struct OptimiserKernels {
    void (*adam)(const OptimiserStep &, const Moved *, int64_t count);
    void (*sgd)(const OptimiserStep &, const Moved *, int64_t count);
};

} // namespace spikefed
