// Argument records of one time step of a graph's parts: sums before neurons, neurons with a carried membrane, normalisation without
// neurons. Mirrored in neurons/steps.py. Maps are [rows, channels] (B * H * W pixels, channels-last), of float32 (dtype 0) or bfloat16 (1).
#pragma once
#include <cstdint>

namespace spikefed {

static constexpr int kMostTerms = 8;

// y = sum over terms of gain * x + shift; with neurons: u = decay * reset(before) + neuron gain * y, out = spikes.
struct StepSum {
    const void *x[kMostTerms];      // backward: what adds up to the gradient of the spikes
    const float *gain[kMostTerms];  // [C] or null: 1
    const float *shift[kMostTerms]; // [C] or null: 0
    void *out;                      // forward: y, or the spikes
    const float *before;            // potentials before reset of the step before; null: rest
    float *potential;               // forward out, backward in: potentials before reset; null: no neurons
    float *carried;                 // backward in and out: gradient of the reset potential, carried back in time
    void *grad;                     // backward out: gradient of y
    int64_t *nonzero;               // forward out: how many spikes
    int64_t terms, rows, channels;
    int32_t dtype, soft, surrogate, detach_reset, threads;
    int32_t last;                   // backward: nothing is carried in yet
    float decay, theta, fire, neuron_gain, surrogate_a, surrogate_b;
};

// Statistics of one step, and the gain and shift that they make of x; and the way back.
struct StepNorm {
    const void *x;
    const void *grad;    // backward: gradient of gain * x + shift
    void *grad_x;        // backward out
    const float *weight; // [C] or null (1)
    const float *bias;   // [C] or null (0)
    float *running_mean; // [C] or null
    float *running_var;  // [C] or null
    float *made;         // [4][C] forward out, backward in: mean, 1 / sqrt(var + eps), gain, shift
    double *sums;        // [2][C] backward out: of the gradient, and of it times the normalised x
    int64_t rows, channels;
    int32_t dtype, batch_statistics, threads;
    float scale, eps, momentum;
};

// Neurons behind a sum of branches, over all steps: [T, rows, C]. As StepSum, with the membranes inside.
struct Join {
    const void *x[kMostTerms];
    const float *gain[kMostTerms];  // [C] of the first step, or null: 1
    const float *shift[kMostTerms]; // [C] of the first step, or null: 0
    int64_t next[kMostTerms];       // floats from a step's gain and shift to the next step's; 0: all steps have the same
    void *out;                      // forward: spikes
    const void *grad_out;           // backward
    void *grad;                     // backward out: gradient of the sum
    int64_t *nonzero;               // forward out
    int64_t terms, steps, rows, channels;
    int32_t dtype, soft, surrogate, detach_reset, threads;
    float decay, theta, fire, neuron_gain, surrogate_a, surrogate_b;
};

struct StepKernels {
    void (*sum)(const StepSum &);
    void (*sum_backward)(const StepSum &);
    void (*norm)(const StepNorm &);
    void (*norm_backward)(const StepNorm &);
    void (*join)(const Join &);
    void (*join_backward)(const Join &);
};

} // namespace spikefed
