// Fused normalisation + LIF + 2x2 average pool.
//
// The innermost loop is time: a block of neurons goes through all steps with its membranes, and back with its gradients, in
// registers; only its potentials before reset are written down for the way back. A block is four or eight vectors: a step waits for
// the one before, so a single vector would leave the processor idle most of the time, and whole cache lines. What is read or written at
// every step goes through a copy of few neurons, because the steps of a neuron often lie a power of two apart and push each other out of
// the cache (see `Strip`).
//
// Channel sums are taken in an order that depends neither on the thread count nor on the vector length: results repeat bit for bit.

static constexpr int64_t kSpan = 2048; // elements of a piece of the second pass
static constexpr int64_t kAhead = 256; // elements by which memory is asked for ahead of its use; one window when pooling
static constexpr int64_t kStrip = 4096; // floats of all steps of a strip (see `Strip`)
static constexpr int64_t kFlush = 4;   // units whose sums are added as floats before they go to doubles

// K = vectors_of(P) vectors of neighbouring channels in each of P pixels: P is 4 under a pool window, 1 otherwise.
struct Block {
    int64_t in[4];    // where the pixels begin in a step of x
    int64_t own[4];   // the same in a step of the strip's own memory
    int64_t out;      // where the results begin in a step of `out`
    int64_t channel;  // where the parameters begin
    int64_t lanes[4]; // neurons in each of the K vectors
};
static constexpr int vectors_of(int pixels) { return pixels > 1 ? 2 : 4; }

// Currents that lie next to each other in every step, few enough that all their steps stay in the first-level cache once they are
// copied there: read in place, the steps of a neuron push each other out where they lie a power of two apart, as they often do.
struct Strip {
    int64_t from[2];       // where its runs begin in a step of x: one run, or the two image rows under windows
    int64_t count, length; // runs; elements of each
    int64_t param;         // where the parameters of its first element begin
    int64_t pixels, pitch; // of each run, floats from one to the next in own memory; 0: elements stay next to each other
    int64_t run, step;     // floats of own memory from run to run, from step to step: an odd number of cache lines
};

// Sums go by units: pairs of image rows when pooling, runs of parameters otherwise.
static int64_t count_units(const NormLif &a, const Params &p) {
    if (a.pool) return a.rows / (a.height * a.width) * (a.height / 2);
    return (a.rows * a.channels + p.run - 1) / p.run;
}

static int64_t up_to(int64_t n, int64_t whole) { return (n + whole - 1) / whole * whole; }

// Calls strip(s) for the strips of a unit, then block(s, b) for the blocks of each, then done(s).
template <int P, class F, class G, class H>
static SPIKEFED_INLINE void for_blocks(const NormLif &a, const Params &p, int64_t unit, const F &strip, const G &block, const H &done) {
    constexpr int K = vectors_of(P);
    const int64_t C = a.channels, W = a.width, whole = K * kVec, most = larger(1, kStrip / a.steps);
    const auto some_lanes = [](Block &b, int64_t n) {
        for (int k = 0; k < K; ++k) b.lanes[k] = larger(0, smaller(kVec, n - k * kVec));
    };
    if (P == 1) {
        const int64_t from = unit * p.run, n = smaller(p.run, a.rows * C - from), length = up_to(most, kRoom);
        for (int64_t j0 = 0; j0 < n; j0 += length) {
            const int64_t m = smaller(length, n - j0), run = up_to(m, whole);
            const Strip s{{from + j0, 0}, 1, m, j0, 0, 0, run, (run / 16 | 1) * 16};
            strip(s);
            for (int64_t j = 0; j < m; j += whole) {
                Block b{{from + j0 + j, 0, 0, 0}, {j, 0, 0, 0}, from + j0 + j, j0 + j, {}};
                some_lanes(b, m - j);
                block(s, b);
            }
            done(s);
        }
        return;
    }
    const int64_t image = unit / (a.height / 2), row = (image * a.height + 2 * (unit % (a.height / 2))) * W, half = W / 2;
    const int64_t pitch = up_to(C, whole), windows = larger(1, most / (4 * pitch));
    for (int64_t w0 = 0; w0 < half; w0 += windows) {
        const int64_t m = smaller(windows, half - w0), run = 2 * m * pitch, first = (row + 2 * w0) * C;
        const Strip s{{first, first + W * C}, 2, 2 * m * C, 0, 2 * m, pitch, run, (2 * run / 16 | 1) * 16};
        strip(s);
        for (int64_t w = 0; w < m; ++w)
            for (int64_t c = 0; c < C; c += whole) {
                const int64_t top = first + 2 * w * C + c, bottom = top + W * C, own = 2 * w * pitch + c;
                Block b{{top, top + C, bottom, bottom + C}, {own, own + pitch, own + run, own + run + pitch}, (unit * half + w0 + w) * C + c, c, {}};
                some_lanes(b, C - c);
                block(s, b);
            }
        done(s);
    }
}

// Floats of own memory for any strip.
template <int P> static int64_t strip_room(const NormLif &a) {
    const int64_t whole = vectors_of(P) * kVec, most = larger(1, kStrip / a.steps), pitch = up_to(a.channels, whole);
    return a.steps * ((P == 1 ? up_to(most, kRoom) : larger(1, most / (4 * pitch)) * 4 * pitch) + 32);
}

static int64_t out_step(const NormLif &a) { // elements of `out` in one step
    const int64_t rows = a.pool ? a.rows / (a.height * a.width) * (a.height / 2) * (a.width / 2) : a.rows;
    return rows * a.channels;
}

template <class E> static constexpr bool new_line(int64_t c) { return c * static_cast<int64_t>(sizeof(E)) % 64 == 0; }

// x of one vector less its mean, and the input current: gain * (normalised x).
template <class E, bool NORM> static SPIKEFED_INLINE Vec centred(const E *x, int64_t lanes, const Params &p, int64_t param) {
    const Vec y = load_some(x, lanes);
    return NORM ? y - load_vec(p.mean + param) : y;
}
template <bool NORM> static SPIKEFED_INLINE Vec current(const Vec &y, const Params &p, int64_t param, const Vec &gain) {
    return gain * (NORM ? y * load_vec(p.gain + param) + load_vec(p.bias + param) : y);
}

// Calls body(element of the run, place in own memory, lanes, parameters) for vectors of a run of the strip.
template <class F> static SPIKEFED_INLINE void for_vectors(const NormLif &a, const Params &p, const Strip &s, const F &body) {
    if (s.pitch == 0 || s.pitch == a.channels)
        for (int64_t q = 0; q < s.length; q += p.run) {
            const int64_t n = smaller(p.run, s.length - q);
            int64_t j = 0;
            for (; j + kVec <= n; j += kVec) body(q + j, q + j, kVec, s.param + j);
            if (j < n) body(q + j, q + j, n - j, s.param + j);
        }
    else
        for (int64_t i = 0; i < s.pixels; ++i)
            for (int64_t c = 0; c < a.channels; c += kVec) body(i * a.channels + c, i * s.pitch + c, smaller(kVec, a.channels - c), c);
}

// The strip's steps to own memory: less their means, or, with CURRENT, as input currents.
template <class E, bool NORM, bool CURRENT> static SPIKEFED_INLINE void read_strip(const NormLif &a, const Params &p, const Strip &s, float *own) {
    const int64_t step = a.repeat ? 0 : a.rows * a.channels, group = a.norm == 2 ? p.stride : 0;
    const Vec gain = broadcast(a.gain);
    for (int64_t t = 0; t < a.steps; ++t)
        for (int64_t r = 0; r < s.count; ++r) {
            const E *from = static_cast<const E *>(a.x) + t * step + s.from[r];
            float *to = own + t * s.step + r * s.run;
            for_vectors(a, p, s, [&](int64_t i, int64_t at, int64_t lanes, int64_t param) SPIKEFED_LAMBDA {
                param += t * group;
                if (new_line<E>(i)) SPIKEFED_PREFETCH_FAR(from + i + s.length);
                const Vec y = centred<E, NORM>(from + i, lanes, p, param);
                store_vec(to + at, CURRENT ? current<NORM>(y, p, param, gain) : y);
            });
            for (int64_t i = s.length; s.pitch == 0 && i < s.run; ++i) to[i] = 0.0f;
        }
}

// And from there to x's gradient.
template <class E> static SPIKEFED_INLINE void write_strip(const NormLif &a, const Params &p, const Strip &s, const float *own) {
    for (int64_t t = 0; t < a.steps; ++t)
        for (int64_t r = 0; r < s.count; ++r) {
            E *to = static_cast<E *>(a.grad_x) + t * a.rows * a.channels + s.from[r];
            const float *from = own + t * s.step + r * s.run;
            for_vectors(a, p, s, [&](int64_t i, int64_t at, int64_t lanes, int64_t) SPIKEFED_LAMBDA {
                if (new_line<E>(i)) SPIKEFED_PREFETCH_FAR(to + i + s.length);
                store_some(to + i, load_vec(from + at), lanes);
            });
        }
}

// A choice that is known when the kernel is compiled, or kAsked: looked up where it matters, which makes few kernels out of many.
static constexpr int kAsked = -1;
template <int COMPILED> static SPIKEFED_INLINE int chosen(int asked) { return COMPILED == kAsked ? asked : COMPILED; }

// Membranes: `left` is what decay leaves of the last step's potential.
template <int RESET> struct Membrane {
    const bool soft;
    Vec decay, fire, theta, zero;
    explicit Membrane(const NormLif &a)
        : soft(chosen<RESET>(a.soft)), decay(broadcast(a.decay)), fire(broadcast(a.fire)), theta(broadcast(a.theta)), zero(broadcast(0.0f)) {}
    SPIKEFED_INLINE Vec charge(Vec &left, const Vec &y, Mask &fired) const { // the potentials before reset
        const Vec u = left + y;
        fired = at_least(u, fire);
        left = soft ? decay * (u - choose(fired, theta, zero)) : choose(fired, zero, decay * u);
        return u;
    }
};

// ---- forward ------------------------------------------------------------------------------------------------------------------

// ONCE: the current is the same at every step. `own`: the strip's currents; without a pool they are read where they lie (the results
// would take as much room again). Adds to how many outputs are not zero, and how many inside the window.
struct Found {
    int64_t nonzero, inside;
};
template <class E, bool NORM, int RESET, bool ONCE, int P>
static SPIKEFED_INLINE void forward_block(const NormLif &a, const Params &p, const Strip &s, const Block &b, const float *own, Found &found) {
    constexpr int K = vectors_of(P);
    const E *x = static_cast<const E *>(a.x);
    E *out = static_cast<E *>(a.out) + b.out;
    const int64_t step = a.repeat ? 0 : a.rows * a.channels, to_next = out_step(a), group = a.norm == 2 ? p.stride : 0, steps = a.steps;
    const int64_t ahead = P > 1 ? 2 * a.channels : kAhead;
    const Membrane<RESET> membrane(a);
    const Vec gain = broadcast(a.gain), share = broadcast(1.0f / P), zero = broadcast(0.0f);
    const Vec stretch = broadcast(a.soft ? 1.0f / a.theta : 1.0f), shift = broadcast(a.soft ? 1.0f : a.theta);
    const Vec half = broadcast(a.surrogate_a);
    uint8_t *const window = a.window, *const bits = a.bits;
    Vec left[K * P], y[K * P];
    int64_t nonzero = 0, within = 0;
    SPIKEFED_UNROLL
    for (int i = 0; i < K * P; ++i) {
        const int64_t c = i / P * kVec;
        left[i] = zero;
        if (ONCE) y[i] = current<NORM>(centred<E, NORM>(x + b.in[i % P] + c, b.lanes[i / P], p, b.channel + c), p, b.channel + c, gain);
    }
    for (int64_t t = 0; t < steps; ++t) {
        SPIKEFED_UNROLL
        for (int k = 0; k < K; ++k) {
            const int64_t c = k * kVec, param = t * group + b.channel + c;
            uint32_t some = 0, inside = 0;
            Vec sum = zero;
            SPIKEFED_UNROLL
            for (int q = 0; q < P; ++q) {
                Vec &now = y[k * P + q];
                if (!ONCE && P > 1) {
                    now = load_vec(own + t * s.step + b.own[q] + c);
                } else if (!ONCE) {
                    const E *at = x + t * step + b.in[q] + c;
                    if (new_line<E>(c)) SPIKEFED_PREFETCH(at + 2 * ahead, 0);
                    now = current<NORM>(centred<E, NORM>(at, b.lanes[k], p, param), p, param, gain);
                }
                Mask fired;
                const Vec u = membrane.charge(left[k * P + q], now, fired);
                sum = P == 1 ? choose(fired, share, zero) : sum + choose(fired, share, zero);
                some |= bits_of(fired);
                if (window) inside |= bits_of(below(absolute(u * stretch - shift), half));
            }
            if (new_line<E>(c)) SPIKEFED_PREFETCH(out + t * to_next + c + (P > 1 ? ahead / 2 : ahead), 1);
            store_some_exact(out + t * to_next + c, sum, b.lanes[k]);
            const uint32_t real = (1u << b.lanes[k]) - 1;
            nonzero += count_bits(some & real);
            if (bits && b.lanes[k] > 0) put_bits(some, bits, t * to_next + b.out + c);
            if (!window) continue;
            within += count_bits(inside & real);
            spread_bits(inside, window + t * to_next + b.out + c, b.lanes[k]); // 1 where the surrogate of a neuron under it is not zero
        }
    }
    found.nonzero += nonzero;
    found.inside += within;
}

template <class E, bool NORM, int RESET, bool ONCE, int P> static void forward_units(const NormLif &a) {
    const Params p = make_params(a);
    const int64_t units = count_units(a, p), chunks = larger(1, smaller(kMaxChunks, units));
    Found *found = scratch<Found>(chunks);
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        float *own = scratch<float>(!ONCE && P > 1 ? strip_room<P>(a) : 1);
        for (int64_t k = begin; k < end; ++k)
            for (int64_t i = units * k / chunks; i < units * (k + 1) / chunks; ++i)
                for_blocks<P>(
                    a, p, i,
                    [&](const Strip &s) {
                        if (!ONCE && P > 1) read_strip<E, NORM, true>(a, p, s, own);
                    },
                    [&](const Strip &s, const Block &b) { forward_block<E, NORM, RESET, ONCE, P>(a, p, s, b, own, found[k]); }, [](const Strip &) {});
        release(own);
    });
    Found all{};
    for (int64_t k = 0; k < chunks; ++k) all.nonzero += found[k].nonzero, all.inside += found[k].inside;
    *a.nonzero = all.nonzero;
    if (a.window) *a.inside = all.inside;
    release(found);
    release(p.mean);
}

// ---- backward -----------------------------------------------------------------------------------------------------------------

template <int VALUE> struct Kind {
    static constexpr int value = VALUE;
};
static SPIKEFED_INLINE Vec surrogate(int kind, const Vec &x, const Vec &a, const Vec &b) {
    const Vec zero = broadcast(0.0f), one = broadcast(1.0f);
    if (kind == 0) return choose(below(absolute(x), a), b, zero); // rectangle: half width, height
    if (kind == 1) {                                                   // triangle: width, gamma
        const Vec y = one - absolute(x) * (one / a); // a division once a kernel, not once a neuron and step
        return choose(below(absolute(x), a), b * y, zero);
    }
    const Vec y = a * x; // arctan: pi/2 alpha, alpha/2
    return b / (one + y * y);
}

static SPIKEFED_INLINE void add_to(float *sum, const Vec &v) { store_vec(sum, load_vec(sum) + v); }

// dL/dx of one block (dL/du where batch statistics leave a second pass to do: see `finish`), and, where `sums_wanted`, its part of the
// channel sums `acc` [G][2][stride] of dL/du and dL/du * xhat. `own` holds the strip's currents less their means and gets their
// gradients. `u`: room for T * K * P vectors.
static bool sums_wanted(const NormLif &a) { return a.norm != 0 && (a.batch_statistics || a.grad_weight || a.grad_bias); }

template <class E, bool NORM, int RESET, bool ONCE, int P>
static SPIKEFED_INLINE void backward_block(const NormLif &a, const Params &p, const Strip &s, const Block &b, float *__restrict own, float *__restrict u,
                                           float *__restrict acc) {
    constexpr int K = vectors_of(P), N = K * P;
    const E *x = static_cast<const E *>(a.x), *go = static_cast<const E *>(a.grad_out) + b.out;
    E *dx = static_cast<E *>(a.grad_x);
    const int64_t to_next = out_step(a), group = a.norm == 2 ? p.stride : 0, steps = a.steps;
    const int64_t ahead = P > 1 ? 2 * a.channels : kAhead;
    const Membrane<RESET> membrane(a);
    const Vec zero = broadcast(0.0f), gain = broadcast(a.gain), theta = membrane.theta;
    const Vec inverse = broadcast(1.0f / a.theta), one = broadcast(1.0f), share = broadcast(1.0f / P);
    const Vec sa = broadcast(a.surrogate_a), sb = broadcast(a.surrogate_b);
    const bool soft = membrane.soft, repeat = a.repeat, detach = a.detach_reset, summed = NORM && sums_wanted(a);
    const bool scaled = NORM && (repeat || !a.batch_statistics), gained = scaled || !NORM; // what dL/du is multiplied with here

    Vec left[N], y[N], total[N], later[N], s1[K], s2[K], g[K]; // later: dL/dv, carried back in time
    SPIKEFED_UNROLL
    for (int i = 0; i < N; ++i) {
        const int64_t c = i / P * kVec, param = b.channel + c;
        left[i] = total[i] = later[i] = zero;
        if (ONCE) y[i] = current<NORM>(centred<E, NORM>(x + b.in[i % P] + c, b.lanes[i / P], p, param), p, param, gain);
    }
    SPIKEFED_UNROLL
    for (int k = 0; k < K; ++k) s1[k] = s2[k] = zero;
    for (int64_t t = 0; t < steps; ++t) {
        SPIKEFED_UNROLL
        for (int i = 0; i < N; ++i) {
            const int64_t c = i / P * kVec, param = t * group + b.channel + c;
            if (!ONCE) y[i] = current<NORM>(load_vec(own + t * s.step + b.own[i % P] + c), p, param, gain);
            if (i % P == 0 && new_line<E>(c)) SPIKEFED_PREFETCH(go + t * to_next + c + (P > 1 ? ahead / 2 : ahead), 0);
            Mask fired;
            store_vec(u + (t * N + i) * kVec, membrane.charge(left[i], y[i], fired));
        }
    }
    // The kind of surrogate is looked up once a block: kernels of their own for each kind would take three times as long to compile.
    const auto back = [&](auto kind) SPIKEFED_LAMBDA {
        const int which = chosen<decltype(kind)::value>(a.surrogate);
        for (int64_t t = steps - 1; t >= 0; --t) {
            SPIKEFED_UNROLL
            for (int k = 0; k < K; ++k) {
                g[k] = load_some(go + t * to_next + k * kVec, b.lanes[k]);
                if (P > 1) g[k] = share * g[k];
            }
            SPIKEFED_UNROLL
            for (int i = 0; i < N; ++i) {
                const int64_t c = i / P * kVec;
                float *at = own + t * s.step + b.own[i % P] + c;
                const Vec w = load_vec(u + (t * N + i) * kVec), v = later[i];
                const Vec h = soft ? surrogate(which, w * inverse - one, sa, sb) * inverse : surrogate(which, w - theta, sa, sb);
                const Vec through = soft ? v : choose(at_least(w, membrane.fire), zero, v);
                Vec d = h * (detach ? g[i / P] : g[i / P] - v * (soft ? theta : w)) + through;
                later[i] = membrane.decay * d;
                if (!ONCE && NORM) {
                    if (summed) {
                        s1[i / P] = s1[i / P] + d;
                        s2[i / P] = s2[i / P] + d * load_vec(at);
                    }
                    if (scaled) d = d * load_vec(p.gain + t * group + b.channel + c);
                }
                if (ONCE || repeat)
                    total[i] = total[i] + d;
                else
                    store_vec(at, gained ? gain * d : d);
            }
            if (summed && !ONCE && (group != 0 || t == 0)) {
                SPIKEFED_UNROLL
                for (int k = 0; k < K; ++k) {
                    const int64_t param = t * group + b.channel + k * kVec;
                    float *sum = acc + 2 * t * group + b.channel + k * kVec;
                    add_to(sum, s1[k]);
                    add_to(sum + p.stride, s2[k] * load_vec(p.rstd + param));
                    s1[k] = s2[k] = zero;
                }
            }
        }
    };
    if constexpr (kCompact)
        back(Kind<kAsked>{});
    else if (a.surrogate == 0)
        back(Kind<0>{});
    else if (a.surrogate == 1)
        back(Kind<1>{});
    else
        back(Kind<2>{});
    if (!repeat) return;
    SPIKEFED_UNROLL
    for (int i = 0; i < N; ++i) {
        const int64_t c = i / P * kVec, param = b.channel + c, at = b.in[i % P] + c;
        if (ONCE && NORM) {
            s1[i / P] = s1[i / P] + total[i];
            s2[i / P] = s2[i / P] + total[i] * centred<E, NORM>(x + at, b.lanes[i / P], p, param);
            total[i] = total[i] * load_vec(p.gain + param);
        }
        store_some(dx + at, gain * total[i], b.lanes[i / P]);
    }
    for (int k = 0; ONCE && NORM && k < K; ++k) {
        add_to(acc + b.channel + k * kVec, s1[k]);
        add_to(acc + p.stride + b.channel + k * kVec, s2[k] * load_vec(p.rstd + b.channel + k * kVec));
    }
}

// Second pass for batch statistics: dx = gain * (dy - mean(dy) - xhat * mean(dy * xhat)), in place over what `backward_block` left: dy
// without the neuron's gain, or, of a repeated current, the sum over the steps of gain * dy.
template <class E> SPIKEFED_APART static void finish(const NormLif &a, const Params &p, const double *sums) {
    const int64_t C = a.channels, L = p.stride, G = a.norm == 2 ? a.steps : 1, sets = a.repeat ? 1 : G;
    const double n = static_cast<double>(a.norm == 2 ? a.rows : a.steps * a.rows);
    // dx = A * dy + B * (x - mean) + D per element; with a repeated current A is 1 (gains are in already) and B, D sum over steps
    float *all = scratch<float>(3 * sets * L), *A = all, *B = all + sets * L, *D = all + 2 * sets * L;
    const double times = a.repeat && a.norm == 1 ? static_cast<double>(a.steps) : 1.0;
    for (int64_t g = 0; g < G; ++g)
        for (int64_t j = 0; j < p.run; ++j) {
            const int64_t c = j % C, s = a.repeat ? 0 : g;
            const double gain = p.gain[g * L + j];
            A[s * L + j] = a.repeat ? 1.0f : a.gain * p.gain[g * L + j];
            B[s * L + j] -= static_cast<float>(times * gain * p.rstd[g * L + j] * sums[(2 * g + 1) * C + c] / n);
            D[s * L + j] -= static_cast<float>(times * gain * sums[2 * g * C + c] / n);
        }
    const int64_t rows = a.repeat || a.norm == 2 ? a.rows : a.steps * a.rows, span = larger(1, kSpan / C);
    const int64_t spans = (rows + span - 1) / span;
    parallel(sets * spans, a.threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t s = i / spans, from = i % spans * span, count = smaller(span, rows - from) * C;
            const E *x = static_cast<const E *>(a.x) + (s * rows + from) * C;
            E *dx = static_cast<E *>(a.grad_x) + (s * rows + from) * C;
            const float *__restrict fa = A + s * L, *__restrict fb = B + s * L, *__restrict fd = D + s * L;
            const float *__restrict mean = p.mean + s * L;
            for (int64_t q = 0; q < count; q += p.run) {
                const int64_t m = smaller(p.run, count - q);
                const E *__restrict xq = x + q;
                E *__restrict dq = dx + q;
                for (int64_t j = 0; j < m; ++j) store(dq + j, fa[j] * load(dq[j]) + fb[j] * (load(xq[j]) - mean[j]) + fd[j]);
            }
        }
    });
    release(all);
}

// Sums over the chunks, into the first of `partial` [chunks][G][2][C], and the gradients of weight and bias.
SPIKEFED_APART static void add_chunks(const NormLif &a, double *partial, int64_t chunks) {
    const int64_t C = a.channels, G = a.norm == 2 ? a.steps : 1, sums = 2 * G * C;
    for (int64_t k = 1; k < chunks; ++k)
        for (int64_t s = 0; s < sums; ++s) partial[s] += partial[k * sums + s];
    for (int64_t g = 0; g < G; ++g)
        for (int64_t c = 0; c < C; ++c) {
            if (a.grad_bias) a.grad_bias[g * C + c] = static_cast<float>(partial[2 * g * C + c]);
            if (a.grad_weight) a.grad_weight[g * C + c] = static_cast<float>(a.scale * partial[(2 * g + 1) * C + c]);
        }
}

template <class E, bool NORM, int RESET, bool ONCE, int P> static void backward_units(const NormLif &a) {
    const Params p = make_params(a);
    const int64_t C = a.channels, T = a.steps, G = a.norm == 2 ? T : 1, units = count_units(a, p);
    const int64_t chunks = larger(1, smaller(kMaxChunks, smaller(units, T * a.rows / kChunkRows)));
    const int64_t sums = NORM ? 2 * G * C : 0;
    const bool summed = NORM && sums_wanted(a);
    double *partial = scratch<double>(chunks * sums);
    if (P > 1 && (a.height % 2 || a.width % 2)) // the last row or column is under no window
        memset(a.grad_x, 0, sizeof(E) * static_cast<size_t>((a.repeat ? 1 : T) * a.rows * C));
    parallel(chunks, a.threads, [&](int64_t begin, int64_t end) {
        float *u = scratch<float>(T * vectors_of(P) * P * kVec), *acc = scratch<float>(NORM ? 2 * G * p.stride : 1);
        float *own = scratch<float>(ONCE ? 1 : strip_room<P>(a));
        for (int64_t k = begin; k < end; ++k) {
            const int64_t first = units * k / chunks, last = units * (k + 1) / chunks;
            for (int64_t i = first; i < last; ++i) {
                for_blocks<P>(
                    a, p, i,
                    [&](const Strip &s) {
                        if (!ONCE) read_strip<E, NORM, false>(a, p, s, own);
                    },
                    [&](const Strip &s, const Block &b) { backward_block<E, NORM, RESET, ONCE, P>(a, p, s, b, own, u, acc); },
                    [&](const Strip &s) {
                        if (!ONCE && !a.repeat) write_strip<E>(a, p, s, own);
                    });
                if (!summed || ((i - first) % kFlush != kFlush - 1 && i + 1 != last)) continue;
                for (int64_t s = 0; s < 2 * G; ++s) // s = 2 * group + (0: dy, 1: dy * xhat)
                    for (int64_t j = 0; j < p.run; j += C)
                        for (int64_t c = 0; c < C; ++c) partial[k * sums + s * C + c] += a.gain * static_cast<double>(acc[s * p.stride + j + c]);
                memset(acc, 0, sizeof(float) * static_cast<size_t>(2 * G * p.stride));
            }
        }
        release(own);
        release(acc);
        release(u);
    });
    if (summed) {
        add_chunks(a, partial, chunks);
        if (a.batch_statistics) finish<E>(a, p, partial);
    }
    release(partial);
    release(p.mean);
}

// ---- choice of the template ---------------------------------------------------------------------------------------------------

template <class E, bool NORM, int RESET, bool ONCE> static void forward_shaped(const NormLif &a) {
    a.pool ? forward_units<E, NORM, RESET, ONCE, 4>(a) : forward_units<E, NORM, RESET, ONCE, 1>(a);
}

template <class E, bool NORM, int RESET> static void forward_once(const NormLif &a) {
    a.repeat && a.norm != 2 ? forward_shaped<E, NORM, RESET, true>(a) : forward_shaped<E, NORM, RESET, false>(a);
}

template <class E, bool NORM> static void forward_reset(const NormLif &a) {
    if constexpr (kCompact)
        forward_once<E, NORM, kAsked>(a);
    else
        a.soft ? forward_once<E, NORM, 1>(a) : forward_once<E, NORM, 0>(a);
}

template <class E> static void forward_typed(const NormLif &a) {
    if (a.norm != 0) statistics<E>(a);
    a.norm != 0 ? forward_reset<E, true>(a) : forward_reset<E, false>(a);
}

template <class E, bool NORM, int RESET, bool ONCE> static void backward_shaped(const NormLif &a) {
    a.pool ? backward_units<E, NORM, RESET, ONCE, 4>(a) : backward_units<E, NORM, RESET, ONCE, 1>(a);
}

template <class E, bool NORM, int RESET> static void backward_once(const NormLif &a) {
    a.repeat && a.norm != 2 ? backward_shaped<E, NORM, RESET, true>(a) : backward_shaped<E, NORM, RESET, false>(a);
}

template <class E, bool NORM> static void backward_reset(const NormLif &a) {
    if constexpr (kCompact)
        backward_once<E, NORM, kAsked>(a);
    else
        a.soft ? backward_once<E, NORM, 1>(a) : backward_once<E, NORM, 0>(a);
}

template <class E> static void backward_typed(const NormLif &a) {
    a.norm != 0 ? backward_reset<E, true>(a) : backward_reset<E, false>(a);
}

static void forward(const NormLif &a) { a.dtype == 0 ? forward_typed<F32>(a) : forward_typed<BF16>(a); }
static void backward(const NormLif &a) { a.dtype == 0 ? backward_typed<F32>(a) : backward_typed<BF16>(a); }
