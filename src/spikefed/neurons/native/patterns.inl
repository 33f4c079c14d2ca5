// A first layer on binary spikes of one channel: draw, 3x3 product by table, normalisation, LIF and 2x2 pool in one pass, and the
// gradient of its currents summed over draws and steps. Included once per instruction set, after norm_lif.inl.
//
// Forward gives the bits of the product followed by `norm_lif`. Backward adds draw after draw, the steps of a draw first: the order
// depends neither on the thread count nor on the vector length.

// The table behind normalisation and gain, [512][whole vectors].
static float *charged_table(const Patterns &a, const Params &p, int64_t pitch) {
    const NormLif &n = a.neuron;
    float *to = scratch<float>(512 * pitch);
    const Vec gain = broadcast(n.gain);
    for (int64_t i = 0; i < 512; ++i)
        for (int64_t c = 0; c < n.channels; c += kVec) {
            const float *from = a.table + i * n.channels + c;
            const int64_t lanes = smaller(kVec, n.channels - c);
            const Vec y = n.norm ? current<true>(centred<float, true>(from, lanes, p, c), p, c, gain)
                                 : current<false>(centred<float, false>(from, lanes, p, c), p, c, gain);
            store_vec(to + i * pitch + c, y);
        }
    return to;
}

// The patch around every pixel of one step; `lines` [H + 2][W], of which the first and the last are 0, and W + 2 more of which the ends are.
static void find_patches(const float *__restrict pixels, const float *__restrict uniform, int64_t H, int64_t W, uint16_t *__restrict lines, uint16_t *__restrict to) {
    uint16_t *__restrict fired = lines + (H + 2) * W;
    for (int64_t h = 0; h < H; ++h) {
        for (int64_t w = 0; w < W; ++w) fired[w + 1] = pixels[h * W + w] > uniform[h * W + w] ? 1 : 0;
        uint16_t *__restrict line = lines + (h + 1) * W;
        for (int64_t w = 0; w < W; ++w) line[w] = static_cast<uint16_t>(fired[w] + 2 * fired[w + 1] + 4 * fired[w + 2]);
    }
    for (int64_t i = 0; i < H * W; ++i) to[i] = static_cast<uint16_t>(lines[i] + 8 * lines[i + W] + 64 * lines[i + 2 * W]);
}

// The pixels of one output, and where it lies in its map.
template <int P, class F> static SPIKEFED_INLINE void for_windows(int64_t H, int64_t W, const F &f) {
    if (P == 1) {
        for (int64_t i = 0; i < H * W; ++i) {
            const int64_t at[4] = {i, 0, 0, 0};
            f(at, i);
        }
        return;
    }
    for (int64_t h = 0; h < H / 2; ++h)
        for (int64_t w = 0; w < W / 2; ++w) {
            const int64_t top = 2 * h * W + 2 * w;
            const int64_t at[4] = {top, top + 1, top + W, top + W + 1};
            f(at, h * (W / 2) + w);
        }
}

// Sizes that both ways need.
struct PatternMap {
    int64_t H, W, C, pitch, size, fired, step; // `fired`: outputs of a map, of all channels; `step`: of all maps of a step
    explicit PatternMap(const Patterns &a)
        : H(a.neuron.height), W(a.neuron.width), C(a.neuron.channels), pitch((C + kVec - 1) / kVec * kVec), size(H * W),
          fired((a.neuron.pool ? (H / 2) * (W / 2) : size) * C), step(a.draws * a.images * fired) {}
};

// All steps of one output of one draw; returns how many of its numbers are not 0.
template <int RESET, int P>
static SPIKEFED_INLINE int64_t fire_window(const PatternMap &m, int64_t steps, const Membrane<RESET> &membrane, const float *table, const uint16_t *patch,
                                           const int64_t *at, float *out, int64_t lanes) {
    const Vec share = broadcast(1.0f / P), zero = broadcast(0.0f);
    Vec left[P];
    SPIKEFED_UNROLL
    for (int q = 0; q < P; ++q) left[q] = zero;
    int64_t nonzero = 0;
    for (int64_t t = 0; t < steps; ++t) {
        Vec sum = zero;
        uint32_t some = 0;
        SPIKEFED_UNROLL
        for (int q = 0; q < P; ++q) {
            Mask fired;
            membrane.charge(left[q], load_vec(table + patch[t * m.size + at[q]] * m.pitch), fired);
            sum = P == 1 ? choose(fired, share, zero) : sum + choose(fired, share, zero);
            some |= bits_of(fired);
        }
        store_some_exact(out + t * m.step, sum, lanes);
        nonzero += count_bits(some & ((1u << lanes) - 1));
    }
    return nonzero;
}

template <int RESET, int P> static void pattern_forward_units(const Patterns &a) {
    const PatternMap m(a);
    const Params p = make_params(a.neuron);
    const Membrane<RESET> membrane(a.neuron);
    const int64_t T = a.neuron.steps, units = a.images * a.draws;
    float *table = charged_table(a, p, m.pitch), *outs = static_cast<float *>(a.neuron.out);
    int64_t *nonzero = scratch<int64_t>(units);
    parallel(units, a.neuron.threads, [&](int64_t begin, int64_t end) {
        uint16_t *lines = scratch<uint16_t>((m.H + 3) * m.W + 2);
        for (int64_t i = begin; i < end; ++i) {
            const int64_t image = i / a.draws, row = i % a.draws * a.images + image;
            uint16_t *patch = a.patch + i * T * m.size;
            for (int64_t t = 0; t < T; ++t)
                find_patches(a.pixels + image * m.size, a.uniform + (i * T + t) * m.size, m.H, m.W, lines, patch + t * m.size);
            for_windows<P>(m.H, m.W, [&](const int64_t *at, int64_t place) {
                for (int64_t c = 0; c < m.C; c += kVec)
                    nonzero[i] += fire_window<RESET, P>(m, T, membrane, table + c, patch, at, outs + row * m.fired + place * m.C + c, smaller(kVec, m.C - c));
            });
        }
        release(lines);
    });
    *a.neuron.nonzero = 0;
    for (int64_t i = 0; i < units; ++i) *a.neuron.nonzero += nonzero[i];
    release(nonzero);
    release(table);
    release(p.mean);
}

// Adds the gradients of one output's potentials over all steps of a draw to `sums` [H * W][pitch]. `u`: room for T * P vectors.
template <int KIND, int RESET, int P>
static SPIKEFED_INLINE void trace_window(const Patterns &a, const PatternMap &m, const Membrane<RESET> &membrane, const float *table, const uint16_t *patch,
                                         const int64_t *at, const float *go, int64_t lanes, float *__restrict u, float *sums) {
    const NormLif &n = a.neuron;
    const int which = chosen<KIND>(n.surrogate);
    const bool soft = membrane.soft, detach = n.detach_reset;
    const Vec zero = broadcast(0.0f), one = broadcast(1.0f), theta = membrane.theta, inverse = broadcast(1.0f / n.theta);
    const Vec share = broadcast(1.0f / P), sa = broadcast(n.surrogate_a), sb = broadcast(n.surrogate_b);
    Vec left[P], later[P], total[P];
    SPIKEFED_UNROLL
    for (int q = 0; q < P; ++q) left[q] = later[q] = total[q] = zero;
    for (int64_t t = 0; t < n.steps; ++t) {
        SPIKEFED_UNROLL
        for (int q = 0; q < P; ++q) {
            Mask fired;
            store_vec(u + (t * P + q) * kVec, membrane.charge(left[q], load_vec(table + patch[t * m.size + at[q]] * m.pitch), fired));
        }
    }
    for (int64_t t = n.steps - 1; t >= 0; --t) {
        const Vec came = load_some(go + t * m.step, lanes), g = P > 1 ? share * came : came;
        SPIKEFED_UNROLL
        for (int q = 0; q < P; ++q) {
            const Vec w = load_vec(u + (t * P + q) * kVec), v = later[q];
            const Vec h = soft ? surrogate(which, w * inverse - one, sa, sb) * inverse : surrogate(which, w - theta, sa, sb);
            const Vec through = soft ? v : choose(at_least(w, membrane.fire), zero, v);
            const Vec d = h * (detach ? g : g - v * (soft ? theta : w)) + through;
            later[q] = membrane.decay * d;
            total[q] = total[q] + d;
        }
    }
    SPIKEFED_UNROLL
    for (int q = 0; q < P; ++q) add_to(sums + at[q] * m.pitch, total[q]);
}

template <int KIND, int RESET, int P> static void pattern_backward_units(const Patterns &a) {
    const PatternMap m(a);
    const Params p = make_params(a.neuron);
    const Membrane<RESET> membrane(a.neuron);
    const int64_t T = a.neuron.steps;
    const float *gos = static_cast<const float *>(a.neuron.grad_out);
    float *table = charged_table(a, p, m.pitch), *grads = static_cast<float *>(a.neuron.grad_x);
    const Vec gain = broadcast(a.neuron.gain);
    parallel(a.images, a.neuron.threads, [&](int64_t begin, int64_t end) {
        float *u = scratch<float>(T * P * kVec), *sums = unset<float>(m.size * m.pitch);
        for (int64_t image = begin; image < end; ++image) {
            memset(sums, 0, sizeof(float) * static_cast<size_t>(m.size * m.pitch));
            for (int64_t draw = 0; draw < a.draws; ++draw) {
                const uint16_t *patch = a.patch + (image * a.draws + draw) * T * m.size;
                const float *go = gos + (draw * a.images + image) * m.fired;
                for_windows<P>(m.H, m.W, [&](const int64_t *at, int64_t place) {
                    for (int64_t c = 0; c < m.C; c += kVec)
                        trace_window<KIND, RESET, P>(a, m, membrane, table + c, patch, at, go + place * m.C + c, smaller(kVec, m.C - c), u, sums + c);
                });
            }
            for (int64_t i = 0; i < m.size; ++i)
                for (int64_t c = 0; c < m.C; c += kVec) {
                    const Vec sum = load_vec(sums + i * m.pitch + c);
                    store_some(grads + (image * m.size + i) * m.C + c, gain * (a.neuron.norm ? sum * load_vec(p.gain + c) : sum), smaller(kVec, m.C - c));
                }
        }
        release(sums);
        release(u);
    });
    release(table);
    release(p.mean);
}

// ---- choice of the template ---------------------------------------------------------------------------------------------------

template <int KIND, int RESET> static void pattern_backward_shaped(const Patterns &a) {
    a.neuron.pool ? pattern_backward_units<KIND, RESET, 4>(a) : pattern_backward_units<KIND, RESET, 1>(a);
}

template <int RESET> static void pattern_backward_kind(const Patterns &a) {
    if constexpr (kCompact)
        pattern_backward_shaped<kAsked, RESET>(a);
    else if (a.neuron.surrogate == 0)
        pattern_backward_shaped<0, RESET>(a);
    else if (a.neuron.surrogate == 1)
        pattern_backward_shaped<1, RESET>(a);
    else
        pattern_backward_shaped<2, RESET>(a);
}

template <int RESET> static void pattern_forward_shaped(const Patterns &a) {
    a.neuron.pool ? pattern_forward_units<RESET, 4>(a) : pattern_forward_units<RESET, 1>(a);
}

static void pattern_forward(const Patterns &a) {
    if (a.neuron.norm) statistics<float>(a.neuron);
    if constexpr (kCompact)
        pattern_forward_shaped<kAsked>(a);
    else
        a.neuron.soft ? pattern_forward_shaped<1>(a) : pattern_forward_shaped<0>(a);
}

static void pattern_backward(const Patterns &a) {
    if constexpr (kCompact)
        pattern_backward_kind<kAsked>(a);
    else
        a.neuron.soft ? pattern_backward_kind<1>(a) : pattern_backward_kind<0>(a);
}
