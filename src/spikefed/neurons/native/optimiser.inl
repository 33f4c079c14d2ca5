// Adam, AdamW and SGD in one pass over every tensor; the operations and their order are those of torch's optimisers tensor by tensor.
// Included once per instruction set.

// Calls body(i, lanes) for every vector of `count` numbers.
template <class F> static SPIKEFED_INLINE void for_vectors(int64_t count, const F &body) {
    for (int64_t i = 0; i < count; i += kVec) body(i, smaller(kVec, count - i));
}

static void adam(const OptimiserStep &o, const Moved *tensors, int64_t count) {
    const Vec decay = broadcast(static_cast<float>(o.weight_decay)), keep = broadcast(static_cast<float>(1.0 - o.lr * o.weight_decay));
    const Vec towards = broadcast(static_cast<float>(1.0 - o.beta1)), beta2 = broadcast(static_cast<float>(o.beta2));
    const Vec fresh = broadcast(static_cast<float>(1.0 - o.beta2)), eps = broadcast(static_cast<float>(o.eps));
    const bool decoupled = o.decoupled != 0, decays = o.weight_decay != 0;
    for (int64_t k = 0; k < count; ++k) {
        const Moved &t = tensors[k];
        const double steps = static_cast<double>(*t.steps += 1.0f);
        const double size = o.lr / (1.0 - pow(o.beta1, steps)), root = sqrt(1.0 - pow(o.beta2, steps));
        const Vec step = broadcast(static_cast<float>(-size)), unbias = broadcast(static_cast<float>(root));
        for_vectors(t.count, [&](int64_t i, int64_t lanes) {
            Vec w = load_some(t.weight + i, lanes), g = load_some(t.grad + i, lanes);
            if (decays && decoupled) w = w * keep;
            if (decays && !decoupled) g = SPIKEFED_FMA(w, decay, g);
            const Vec first = load_some(t.first + i, lanes), m = SPIKEFED_FMA(towards, g - first, first);
            const Vec v = load_some(t.second + i, lanes) * beta2 + fresh * g * g;
            store_some(t.first + i, m, lanes);
            store_some(t.second + i, v, lanes);
            const Vec under = square_root(v) / unbias + eps;
            store_some(t.weight + i, w + step * m / under, lanes);
        });
    }
}

static void sgd(const OptimiserStep &o, const Moved *tensors, int64_t count) {
    const Vec decay = broadcast(static_cast<float>(o.weight_decay)), momentum = broadcast(static_cast<float>(o.beta1));
    const Vec step = broadcast(static_cast<float>(-o.lr));
    const bool decays = o.weight_decay != 0;
    for (int64_t k = 0; k < count; ++k) {
        const Moved &t = tensors[k];
        const bool moving = t.first != nullptr, started = moving && t.started != 0;
        for_vectors(t.count, [&](int64_t i, int64_t lanes) {
            const Vec w = load_some(t.weight + i, lanes);
            Vec g = load_some(t.grad + i, lanes);
            if (decays) g = SPIKEFED_FMA(w, decay, g);
            if (started) g = load_some(t.first + i, lanes) * momentum + g;
            if (moving) store_some(t.first + i, g, lanes);
            store_some(t.weight + i, SPIKEFED_FMA(g, step, w), lanes);
        });
    }
}
