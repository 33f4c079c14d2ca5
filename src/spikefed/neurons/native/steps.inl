// One time step of a graph's parts. Included once per instruction set, behind statistics.inl and norm_lif.inl.
//
// A sum reads its terms once: normalised maps are never written down, because a normalisation is a gain and a shift per channel that
// the sum applies as it reads. Channel sums are cut as in statistics.inl: they depend neither on threads nor on the vector length.

static int64_t step_chunks(int64_t rows, int64_t channels) { return larger(1, smaller(kMaxChunks, rows * channels / 16384)); }

// One and zero for the channels of terms that come as they are.
struct PlainTerms {
    float *ones, *zeros;
    explicit PlainTerms(int64_t channels) : ones(unset<float>(channels)), zeros(scratch<float>(channels)) {
        for (int64_t c = 0; c < channels; ++c) ones[c] = 1.0f;
    }
    ~PlainTerms() { release(ones), release(zeros); }
};

// N terms, or as many as asked (N = 0), of the rows [begin, end). Returns how many spikes.
template <class E, int N, bool FIRES>
static int64_t sum_terms(const StepSum &a, const PlainTerms &plain, int64_t begin, int64_t end) {
    const int64_t C = a.channels, count = N ? N : a.terms;
    const E *x[kMostTerms];
    const float *gain[kMostTerms], *shift[kMostTerms];
    for (int64_t k = 0; k < count; ++k) {
        x[k] = static_cast<const E *>(a.x[k]);
        gain[k] = a.gain[k] ? a.gain[k] : plain.ones;
        shift[k] = a.shift[k] ? a.shift[k] : plain.zeros;
    }
    const Vec zero = broadcast(0.0f), one = broadcast(1.0f), charge = broadcast(a.neuron_gain), decay = broadcast(a.decay);
    const Vec fire = broadcast(a.fire), theta = broadcast(a.theta);
    E *out = static_cast<E *>(a.out);
    int64_t nonzero = 0;
    for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < C; c += kVec) {
            const int64_t lanes = smaller(kVec, C - c), at = r * C + c;
            Vec y = zero;
            SPIKEFED_UNROLL
            for (int64_t k = 0; k < count; ++k) {
                const Vec term = load_some(x[k] + at, lanes) * load_some(gain[k] + c, lanes) + load_some(shift[k] + c, lanes);
                y = k ? y + term : term;
            }
            if (!FIRES) {
                store_some(out + at, y, lanes);
                continue;
            }
            Vec left = zero;
            if (a.before) {
                const Vec was = load_some(a.before + at, lanes);
                const Mask fired = at_least(was, fire);
                left = a.soft ? decay * (was - choose(fired, theta, zero)) : choose(fired, zero, decay * was);
            }
            const Vec u = left + charge * y;
            const Mask fires = at_least(u, fire);
            store_some(a.potential + at, u, lanes);
            store_some_exact(out + at, choose(fires, one, zero), lanes);
            nonzero += count_bits(bits_of(fires) & ((1u << lanes) - 1));
        }
    return nonzero;
}

template <class E, bool FIRES> static void sum_typed(const StepSum &a) {
    const int64_t chunks = step_chunks(a.rows, a.channels);
    const PlainTerms plain(a.channels);
    int64_t *nonzero = scratch<int64_t>(chunks);
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        const int64_t from = a.rows * begin / chunks, to = a.rows * end / chunks;
        if (a.terms == 1)
            nonzero[begin] = sum_terms<E, 1, FIRES>(a, plain, from, to);
        else if (a.terms == 2)
            nonzero[begin] = sum_terms<E, 2, FIRES>(a, plain, from, to);
        else
            nonzero[begin] = sum_terms<E, 0, FIRES>(a, plain, from, to);
    });
    if (FIRES) *a.nonzero = 0;
    for (int64_t k = 0; FIRES && k < chunks; ++k) *a.nonzero += nonzero[k];
    release(nonzero);
}

static void step_sum(const StepSum &a) {
    if (a.dtype == 0)
        a.potential ? sum_typed<F32, true>(a) : sum_typed<F32, false>(a);
    else
        a.potential ? sum_typed<BF16, true>(a) : sum_typed<BF16, false>(a);
}

// As backward_block in norm_lif.inl, one step at a time.
template <class E> static void sum_backward_typed(const StepSum &a) {
    const int64_t count = a.rows * a.channels, chunks = step_chunks(a.rows, a.channels);
    const Vec zero = broadcast(0.0f), one = broadcast(1.0f), theta = broadcast(a.theta), inverse = broadcast(1.0f / a.theta);
    const Vec fire = broadcast(a.fire), decay = broadcast(a.decay), charge = broadcast(a.neuron_gain);
    const Vec sa = broadcast(a.surrogate_a), sb = broadcast(a.surrogate_b);
    const bool soft = a.soft, detach = a.detach_reset, last = a.last;
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        const int64_t from = count * begin / chunks / kVec * kVec, to = end == chunks ? count : count * end / chunks / kVec * kVec;
        for (int64_t i = from; i < to; i += kVec) {
            const int64_t lanes = smaller(kVec, to - i);
            const Vec u = load_some(a.potential + i, lanes);
            Vec g = zero;
            for (int64_t k = 0; k < a.terms; ++k) g = g + load_some(static_cast<const E *>(a.x[k]) + i, lanes);
            const Vec v = last ? zero : load_some(a.carried + i, lanes);
            const Vec h = soft ? surrogate(a.surrogate, u * inverse - one, sa, sb) * inverse : surrogate(a.surrogate, u - theta, sa, sb);
            const Vec through = soft ? v : choose(at_least(u, fire), zero, v);
            const Vec d = h * (detach ? g : g - v * (soft ? theta : u)) + through;
            store_some(a.carried + i, decay * d, lanes);
            store_some(static_cast<E *>(a.grad) + i, charge * d, lanes);
        }
    });
}
static void step_sum_backward(const StepSum &a) { a.dtype == 0 ? sum_backward_typed<F32>(a) : sum_backward_typed<BF16>(a); }

// ---- normalisation ------------------------------------------------------------------------------------------------------------

static void step_norm(const StepNorm &a) {
    const int64_t C = a.channels;
    NormLif n{};
    n.x = a.x;
    n.running_mean = a.running_mean, n.running_var = a.running_var;
    n.mean = a.made, n.rstd = a.made + C;
    n.steps = 1, n.rows = a.rows, n.channels = C;
    n.norm = 1, n.batch_statistics = a.batch_statistics, n.threads = a.threads;
    n.eps = a.eps, n.momentum = a.momentum;
    a.dtype == 0 ? statistics<F32>(n) : statistics<BF16>(n);
    float *gain = a.made + 2 * C, *shift = a.made + 3 * C;
    for (int64_t c = 0; c < C; ++c) {
        gain[c] = a.scale * n.rstd[c] * (a.weight ? a.weight[c] : 1.0f);
        shift[c] = (a.bias ? a.bias[c] : 0.0f) - n.mean[c] * gain[c];
    }
}

// Sums of the gradient and of it times (x - mean), of the rows [begin, end), into `total` [2][C].
template <class E>
static void grad_sums(const StepNorm &a, int64_t begin, int64_t end, double *total) {
    constexpr int K = 2; // vectors at a time
    const int64_t C = a.channels;
    const E *x = static_cast<const E *>(a.x), *g = static_cast<const E *>(a.grad);
    for (int64_t r = begin; r < end; r += 64)
        for (int64_t c = 0; c < C; c += K * kVec) {
            Vec s1[K], s2[K], mean[K];
            int64_t lanes[K];
            SPIKEFED_UNROLL
            for (int k = 0; k < K; ++k) {
                lanes[k] = larger(0, smaller(kVec, C - c - k * kVec));
                s1[k] = s2[k] = broadcast(0.0f);
                mean[k] = load_some(a.made + c + k * kVec, lanes[k]);
            }
            for (int64_t i = r; i < smaller(r + 64, end); ++i) {
                SPIKEFED_UNROLL
                for (int k = 0; k < K; ++k) {
                    const int64_t at = i * C + c + k * kVec;
                    const Vec d = load_some(g + at, lanes[k]);
                    s1[k] = s1[k] + d;
                    s2[k] = s2[k] + d * (load_some(x + at, lanes[k]) - mean[k]);
                }
            }
            for (int k = 0; k < K; ++k) {
                float sums[2][kVec];
                store_vec(sums[0], s1[k]);
                store_vec(sums[1], s2[k]);
                for (int64_t j = 0; j < lanes[k]; ++j) {
                    total[c + k * kVec + j] += static_cast<double>(sums[0][j]);
                    total[C + c + k * kVec + j] += static_cast<double>(sums[1][j]);
                }
            }
        }
}

template <class E> static void norm_backward_typed(const StepNorm &a) {
    const int64_t C = a.channels, chunks = step_chunks(a.rows, C);
    const float *mean = a.made, *rstd = a.made + C, *gain = a.made + 2 * C;
    double *partial = scratch<double>(chunks * 2 * C);
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) grad_sums<E>(a, a.rows * k / chunks, a.rows * (k + 1) / chunks, partial + k * 2 * C);
    });
    float *by_x = scratch<float>(2 * C), *shift = by_x + C; // dx = gain * (g + by_x * (x - mean) + shift)
    for (int64_t c = 0; c < C; ++c) {
        double s1 = 0, s2 = 0;
        for (int64_t k = 0; k < chunks; ++k) s1 += partial[k * 2 * C + c], s2 += partial[k * 2 * C + C + c];
        a.sums[c] = s1;
        a.sums[C + c] = s2 * rstd[c];
        if (!a.batch_statistics) continue;
        by_x[c] = static_cast<float>(-s2 * rstd[c] * rstd[c] / static_cast<double>(a.rows));
        shift[c] = static_cast<float>(-s1 / static_cast<double>(a.rows));
    }
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        const E *x = static_cast<const E *>(a.x), *g = static_cast<const E *>(a.grad);
        E *dx = static_cast<E *>(a.grad_x);
        for (int64_t r = a.rows * begin / chunks; r < a.rows * end / chunks; ++r)
            for (int64_t c = 0; c < C; c += kVec) {
                const int64_t lanes = smaller(kVec, C - c), at = r * C + c;
                const Vec from_mean = load_some(x + at, lanes) - load_some(mean + c, lanes);
                const Vec d = load_some(g + at, lanes) + load_some(by_x + c, lanes) * from_mean + load_some(shift + c, lanes);
                store_some(dx + at, load_some(gain + c, lanes) * d, lanes);
            }
    });
    release(by_x);
    release(partial);
}
static void step_norm_backward(const StepNorm &a) { a.dtype == 0 ? norm_backward_typed<F32>(a) : norm_backward_typed<BF16>(a); }

// ---- neurons behind a sum, over all steps ---------------------------------------------------------------------------------------

// Reads the terms of a join: the sum at step t of the vector at row r, channels c.
template <class E, int N> struct Branches {
    const Join &a;
    const PlainTerms &plain;
    const int64_t count, size; // terms; numbers of a step
    Branches(const Join &join, const PlainTerms &terms) : a(join), plain(terms), count(N ? N : join.terms), size(join.rows * join.channels) {}
    SPIKEFED_INLINE Vec at(int64_t t, int64_t i, int64_t c, int64_t lanes) const {
        Vec y = broadcast(0.0f);
        SPIKEFED_UNROLL
        for (int64_t k = 0; k < count; ++k) {
            const E *x = static_cast<const E *>(a.x[k]) + t * size + i;
            const float *gain = a.gain[k] ? a.gain[k] + t * a.next[k] : plain.ones, *shift = a.gain[k] ? a.shift[k] + t * a.next[k] : plain.zeros;
            SPIKEFED_PREFETCH(x + kAhead, 0);
            const Vec term = load_some(x, lanes) * load_some(gain + c, lanes) + load_some(shift + c, lanes);
            y = k ? y + term : term;
        }
        return y;
    }
};

template <class E, int N> static int64_t join_rows(const Join &a, const PlainTerms &plain, int64_t begin, int64_t end) {
    const Branches<E, N> branches(a, plain);
    const Vec zero = broadcast(0.0f), one = broadcast(1.0f), charge = broadcast(a.neuron_gain), decay = broadcast(a.decay);
    const Vec fire = broadcast(a.fire), theta = broadcast(a.theta);
    int64_t nonzero = 0;
    for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < a.channels; c += kVec) {
            const int64_t lanes = smaller(kVec, a.channels - c), i = r * a.channels + c;
            Vec left = zero;
            for (int64_t t = 0; t < a.steps; ++t) {
                const Vec u = left + charge * branches.at(t, i, c, lanes);
                const Mask fired = at_least(u, fire);
                left = a.soft ? decay * (u - choose(fired, theta, zero)) : choose(fired, zero, decay * u);
                store_some_exact(static_cast<E *>(a.out) + t * branches.size + i, choose(fired, one, zero), lanes);
                nonzero += count_bits(bits_of(fired) & ((1u << lanes) - 1));
            }
        }
    return nonzero;
}

template <class E, int N> static void join_back_rows(const Join &a, const PlainTerms &plain, int64_t begin, int64_t end, float *potential) {
    const Branches<E, N> branches(a, plain);
    const Vec zero = broadcast(0.0f), one = broadcast(1.0f), theta = broadcast(a.theta), inverse = broadcast(1.0f / a.theta);
    const Vec fire = broadcast(a.fire), decay = broadcast(a.decay), charge = broadcast(a.neuron_gain);
    const Vec sa = broadcast(a.surrogate_a), sb = broadcast(a.surrogate_b);
    const bool soft = a.soft, detach = a.detach_reset;
    for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < a.channels; c += kVec) {
            const int64_t lanes = smaller(kVec, a.channels - c), i = r * a.channels + c;
            Vec left = zero;
            for (int64_t t = 0; t < a.steps; ++t) {
                const Vec u = left + charge * branches.at(t, i, c, lanes);
                const Mask fired = at_least(u, fire);
                left = soft ? decay * (u - choose(fired, theta, zero)) : choose(fired, zero, decay * u);
                store_vec(potential + t * kVec, u);
            }
            Vec v = zero;
            for (int64_t t = a.steps - 1; t >= 0; --t) {
                const int64_t at = t * branches.size + i;
                const Vec u = load_vec(potential + t * kVec), g = load_some(static_cast<const E *>(a.grad_out) + at, lanes);
                SPIKEFED_PREFETCH(static_cast<const E *>(a.grad_out) + at + kAhead, 0);
                const Vec h = soft ? surrogate(a.surrogate, u * inverse - one, sa, sb) * inverse : surrogate(a.surrogate, u - theta, sa, sb);
                const Vec through = soft ? v : choose(at_least(u, fire), zero, v);
                const Vec d = h * (detach ? g : g - v * (soft ? theta : u)) + through;
                v = decay * d;
                store_some(static_cast<E *>(a.grad) + at, charge * d, lanes);
            }
        }
}

template <class E> static void join_typed(const Join &a) {
    const int64_t chunks = step_chunks(a.steps * a.rows, a.channels);
    const PlainTerms plain(a.channels);
    int64_t *nonzero = scratch<int64_t>(chunks);
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        const int64_t from = a.rows * begin / chunks, to = a.rows * end / chunks;
        nonzero[begin] = a.terms == 2 ? join_rows<E, 2>(a, plain, from, to) : join_rows<E, 0>(a, plain, from, to);
    });
    *a.nonzero = 0;
    for (int64_t k = 0; k < chunks; ++k) *a.nonzero += nonzero[k];
    release(nonzero);
}

template <class E> static void join_backward_typed(const Join &a) {
    const int64_t chunks = step_chunks(a.steps * a.rows, a.channels);
    const PlainTerms plain(a.channels);
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        const int64_t from = a.rows * begin / chunks, to = a.rows * end / chunks;
        float *potential = unset<float>(a.steps * kVec);
        a.terms == 2 ? join_back_rows<E, 2>(a, plain, from, to, potential) : join_back_rows<E, 0>(a, plain, from, to, potential);
        release(potential);
    });
}

static void join(const Join &a) { a.dtype == 0 ? join_typed<F32>(a) : join_typed<BF16>(a); }
static void join_backward(const Join &a) { a.dtype == 0 ? join_backward_typed<F32>(a) : join_backward_typed<BF16>(a); }
