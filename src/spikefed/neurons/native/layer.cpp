// A chain of whole layers in one call: product, normalisation, neurons, pool, and so on; and its way back. Small ones on one thread: the work is less than
// what threads cost to wake. Always the same products, so results do not depend on densities either.
#include "kernels.h"
#include <cstdlib>
#include <cstring>
#include <vector>

namespace spikefed {
namespace {
Winograd convolution(const Layer &a) {
    Winograd w{};
    w.weight = a.weight;
    w.images = a.images, w.height = a.height, w.width = a.width;
    w.dtype = a.neuron.dtype;
    w.threads = a.neuron.threads;
    return w;
}

Linear product(const Layer &a) {
    Linear p{};
    p.x = a.x;
    p.weight = a.weight;
    p.rows = a.images, p.positions = a.height * a.width, p.channels = a.in_channels, p.outputs = a.out_channels;
    p.dtype = a.neuron.dtype;
    return p;
}

// The bias as the product takes it: an input like others, so bfloat16 rounds it (to nearest, ties to even).
struct Bias {
    std::vector<float> kept;
    const float *data;
    explicit Bias(const Layer &a) : data(a.bias) {
        if (!a.bias || a.neuron.dtype != 1) return;
        kept.assign(a.bias, a.bias + a.out_channels);
        for (float &v : kept) {
            uint32_t bits;
            memcpy(&bits, &v, sizeof bits);
            if (v == v) bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
            memcpy(&v, &bits, sizeof bits);
        }
        data = kept.data();
    }
};

void weighted_sums(const Kernels &kernels, const Layer &a) {
    const Bias bias(a);
    if (a.linear) {
        Linear p = product(a);
        p.bias = bias.data;
        p.out = a.currents;
        kernels.linear->forward(p);
        return;
    }
    Winograd w = convolution(a);
    w.x = a.x;
    w.bias = bias.data;
    w.out = a.currents;
    w.in_channels = a.in_channels, w.out_channels = a.out_channels;
    kernels.winograd->convolve(w);
}

void weight_gradient(const Kernels &kernels, const Layer &a, const void *upstream) {
    if (a.linear) {
        Linear p = product(a);
        p.go = upstream;
        p.weight = a.grad_weight;
        kernels.linear->weight_grad(p);
        return;
    }
    Winograd w = convolution(a);
    w.x = a.x;
    w.go = upstream;
    w.weight = a.grad_weight;
    w.in_channels = a.in_channels, w.out_channels = a.out_channels;
    kernels.winograd->weight_grad(w);
}

void input_gradient(const Kernels &kernels, const Layer &a, const void *upstream, void *grad_x) {
    if (a.linear) {
        Linear p = product(a);
        p.go = upstream;
        p.out = grad_x;
        kernels.linear->input_grad(p);
        return;
    }
    Winograd w = convolution(a);
    w.x = upstream;
    w.out = grad_x;
    w.in_channels = a.out_channels, w.out_channels = a.in_channels;
    w.gradient = 1;
    kernels.winograd->convolve(w);
}

float number(const void *p, int64_t i, int32_t dtype) {
    if (dtype == 0) return static_cast<const float *>(p)[i];
    const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t *>(p)[i]) << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

void bias_gradient(const Layer &a, const void *upstream, int64_t rows) {
    for (int64_t c = 0; c < a.out_channels; ++c) {
        double sum = 0;
        for (int64_t r = 0; r < rows; ++r) sum += number(upstream, r * a.out_channels + c, a.neuron.dtype);
        a.grad_bias[c] = static_cast<float>(sum);
    }
}
int64_t bytes(int64_t numbers, int32_t dtype) { return numbers * (dtype == 0 ? 4 : 2); }

void *room(int64_t numbers, int32_t dtype) { return malloc(static_cast<size_t>(bytes(numbers, dtype)) + 64); }

// The way back through one layer; `upstream` is the gradient of its output, `grad_x` gets that of its input unless null.
void backward(const Kernels &kernels, const Layer &a, const void *upstream, void *grad_x) {
    const int64_t rows = a.linear ? a.images : a.images * a.height * a.width;
    void *made = nullptr;
    if (a.neuron.steps > 0) {
        NormLif neuron = a.neuron;
        made = room(rows * a.out_channels, neuron.dtype);
        neuron.grad_out = upstream;
        neuron.grad_x = made;
        kernels.norm_lif->backward(neuron);
        upstream = made;
    }
    if (a.grad_weight) weight_gradient(kernels, a, upstream);
    if (a.grad_bias) bias_gradient(a, upstream, rows);
    if (grad_x) input_gradient(kernels, a, upstream, grad_x);
    free(made);
}
} // namespace
} // namespace spikefed

SPIKEFED_API int64_t spikefed_layer_size() { return sizeof(spikefed::Layer); }

SPIKEFED_API void spikefed_chain_forward(const spikefed::Layer *layers, int64_t count) {
    const spikefed::Kernels kernels = spikefed::kernels_in_use();
    for (const spikefed::Layer *a = layers; a != layers + count; ++a) {
        spikefed::weighted_sums(kernels, *a);
        if (a->neuron.steps > 0) kernels.norm_lif->forward(a->neuron);
    }
}

// `upstream`: gradient of the last layer's output.
SPIKEFED_API void spikefed_chain_backward(const spikefed::Layer *layers, int64_t count, const void *upstream) {
    const spikefed::Kernels kernels = spikefed::kernels_in_use();
    void *held = nullptr;
    for (const spikefed::Layer *a = layers + count - 1; a >= layers; --a) {
        void *made = a == layers ? nullptr : spikefed::room(a->images * a->in_channels * a->height * a->width, a->neuron.dtype);
        spikefed::backward(kernels, *a, upstream, a == layers ? a->grad_x : made);
        free(held);
        upstream = held = made;
    }
    free(held);
}
