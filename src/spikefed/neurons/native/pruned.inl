// Pruned layers in a row: product with the weights that are left, normalisation, neurons, pool, step by step, one sample after the other.
// Included once per instruction set (see norm_lif.inl for the rules).
//
// Maps are planar, so that neighbouring places are a vector: a weight meets vectors of inputs, and the same vectors of sums are the neurons'
// currents. Between layers spikes are bytes (0 and 1; behind a pool, how many of four fired). Where few inputs are not zero, each adds its
// synapses one by one instead. Which of the two a step takes follows from its own inputs alone, so that a sample's result depends neither
// on the batch nor on threads.

static constexpr int kRunVecs = 8;              // vectors of sums in registers
static constexpr float kEventCost = 8.0f;       // about cycles: an input that is not zero,
static constexpr float kSynapseCost = 1.6f;     // one of its synapses,
static constexpr float kGatherCost = 1.2f;      // a weight and a vector of inputs

// What a thread works with, large enough for every layer.
struct PrunedRoom {
    float *x, *sums, *left;
    uint8_t *fired;          // of all channels, with borders between rows
    uint8_t *before, *after; // [T, C, H, W] of a layer's input and output
    int32_t *place;          // [H, W]: of a number of a map in the padded one
};

static int64_t padded_vecs(const PrunedLayer &a) { // vectors of a plane's sums
    return ((a.height - 1) * a.pitch + a.width + kVec - 1) / kVec;
}
static bool is_line(const PrunedLayer &a) { return a.height * a.width == 1 && a.kernel == 1; } // channels lie side by side
static int64_t numbers_out(const PrunedLayer &a) {
    return a.out_channels * (a.pool ? (a.height / 2) * (a.width / 2) : a.height * a.width);
}

#if defined(SPIKEFED_AVX512)
static SPIKEFED_INLINE void store_fired(uint8_t *to, uint32_t bits) { // a byte of 0 or 1 for each lane
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm_maskz_set1_epi8(static_cast<__mmask16>(bits), 1));
}
#else
static SPIKEFED_INLINE void store_fired(uint8_t *to, uint32_t bits) { // a byte of 0 or 1 for each lane
    for (int i = 0; i < kVec; i += 8) {
        uint64_t spread = ((bits >> i & 255u) * 0x0101010101010101ull) & 0x8040201008040201ull;
        spread = ((spread + 0x7f7f7f7f7f7f7f7full) >> 7) & 0x0101010101010101ull;
        memcpy(to + i, &spread, kVec < 8 ? kVec : 8);
    }
}
#endif

template <class E> static int64_t count_nonzero(const E *from, int64_t n) {
    int64_t found = 0, i = 0;
    for (; i + 16 <= n; i += 16) found += count_bits(nonzero16(from + i));
    for (; i < n; ++i) found += from[i] != 0;
    return found;
}

// Inputs to the padded buffer.
template <class E> static SPIKEFED_INLINE void expand(const E *from, int64_t n, float share, float *to) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; ++j) to[i + j] = share * static_cast<float>(from[i + j]);
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; ++j) to[i + j] = share * static_cast<float>(from[i + j]);
    for (; i < n; ++i) to[i] = share * static_cast<float>(from[i]);
}
template <class E> SPIKEFED_APART static void expand_map(const PrunedLayer &a, const E *from, float share, float *x) {
    const int64_t pad = a.kernel / 2, W = a.width;
    if (is_line(a)) return expand(from, a.in_channels, share, x);
    for (int64_t c = 0; c < a.in_channels; ++c)
        for (int64_t y = 0; y < a.height; ++y)
            expand(from + (c * a.height + y) * W, W, share, x + c * a.plane + (y + pad) * a.pitch + pad);
}

template <int N> static SPIKEFED_INLINE void gather_vecs(const float *x, const int32_t *from, const float *value, int64_t count, float *out) {
    Vec sums[N];
    SPIKEFED_UNROLL_ALL
    for (int v = 0; v < N; ++v) sums[v] = broadcast(0.0f);
    for (int64_t e = 0; e < count; ++e) {
        const float *at = x + from[e];
        const Vec w = broadcast(value[e]);
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < N; ++v) sums[v] = SPIKEFED_FMA(w, load_vec(at + v * kVec), sums[v]);
    }
    SPIKEFED_UNROLL_ALL
    for (int v = 0; v < N; ++v) store_vec(out + v * kVec, sums[v]);
}

// Inputs that are not zero, each to its synapses. `place`: of each number of a map in the padded one.
template <class E> static void scatter(const PrunedLayer &a, const E *x, float share, const int32_t *place, float *sums) {
    const bool line = is_line(a);
    const int64_t groups = line ? 1 : a.in_channels, length = line ? a.in_channels : a.height * a.width;
    const auto add = [&](const E *from, int64_t g, int64_t i) {
        const int64_t c = line ? i : g;
        const int32_t first = a.inputs[c], count = a.inputs[c + 1] - first;
        add_synapses(sums + (line ? 0 : place[i]), a.to + first, a.scattered + first, count, share * static_cast<float>(from[i]));
    };
    for (int64_t g = 0; g < groups; ++g) {
        const E *from = x + g * length;
        int64_t i = 0;
        for (; i + 16 <= length; i += 16)
            for (uint32_t some = nonzero16(from + i); some; some &= some - 1) add(from, g, i + lowest_bit(some));
        for (; i < length; ++i)
            if (from[i] != 0) add(from, g, i);
    }
}

struct Neurons {
    const bool fires, soft;
    const Vec decay, fire, theta, zero, gain;
    explicit Neurons(const PrunedLayer &a)
        : fires(a.fires), soft(a.soft), decay(broadcast(a.decay)), fire(broadcast(a.fire)), theta(broadcast(a.theta)), zero(broadcast(0.0f)),
          gain(broadcast(a.neuron_gain)) {}
    SPIKEFED_INLINE uint32_t charge(float *left, Vec y) const {
        const Vec u = load_vec(left) + gain * y;
        const Mask fired = at_least(u, fire);
        store_vec(left, soft ? decay * (u - choose(fired, theta, zero)) : choose(fired, zero, decay * u));
        return bits_of(fired);
    }
};

// Some vectors of a channel's neurons at a step: sums to bytes, or to numbers where nothing fires.
static SPIKEFED_INLINE void fire_vecs(const PrunedLayer &a, const Neurons &neurons, int64_t c, int64_t t, const float *sums, int64_t vecs,
                                      float *left, uint8_t *fired) {
    const int64_t at = t * a.next + c;
    const Vec bias = broadcast(a.bias ? a.bias[c] : 0.0f), mean = broadcast(a.mean ? a.mean[at] : 0.0f);
    const Vec gain = broadcast(a.mean ? a.gain[at] : 1.0f), shift = broadcast(a.mean ? a.shift[at] : 0.0f);
    for (int64_t v = 0; v < vecs; ++v) {
        const Vec y = (load_vec(sums + v * kVec) + bias - mean) * gain + shift;
        if (neurons.fires)
            store_fired(fired + v * kVec, neurons.charge(left + v * kVec, y));
        else
            store_vec(left + v * kVec, y);
    }
}

// The same of a linear layer, whose channels lie side by side.
static void fire_line(const PrunedLayer &a, const Neurons &neurons, int64_t t, float *sums, float *left, uint8_t *fired) {
    const int64_t C = a.out_channels, at = t * a.next;
    for (int64_t c = 0; c < C; c += kVec) {
        const int64_t n = smaller(kVec, C - c);
        Vec y = load_vec(sums + c);
        if (a.bias) y = y + load_some(a.bias + c, n);
        if (a.mean) y = (y - load_some(a.mean + at + c, n)) * load_some(a.gain + at + c, n) + load_some(a.shift + at + c, n);
        if (neurons.fires)
            store_fired(fired + c, neurons.charge(left + c, y));
        else
            store_vec(left + c, y);
    }
}

// A channel's spikes without the borders between rows, pooled if wanted.
static SPIKEFED_INLINE void copy_row(const uint8_t *from, int64_t n, uint8_t *to) { // rows are short: no calls
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) memcpy(to + i, from + i, 16);
    for (; i + 8 <= n; i += 8) memcpy(to + i, from + i, 8);
    for (; i < n; ++i) to[i] = from[i];
}
static SPIKEFED_INLINE void pool_row(const uint8_t *top, const uint8_t *bottom, int64_t n, uint8_t *to) {
    int64_t i = 0;
#if defined(SPIKEFED_AVX512) || defined(SPIKEFED_AVX2)
    for (; i + 8 <= n; i += 8) {
        const __m128i above = _mm_loadu_si128(reinterpret_cast<const __m128i *>(top + 2 * i));
        const __m128i both = _mm_add_epi8(above, _mm_loadu_si128(reinterpret_cast<const __m128i *>(bottom + 2 * i)));
        const __m128i pairs = _mm_maddubs_epi16(both, _mm_set1_epi8(1));
        _mm_storel_epi64(reinterpret_cast<__m128i *>(to + i), _mm_packus_epi16(pairs, pairs));
    }
#endif
    for (; i + 4 <= n; i += 4) { // eight bytes of each row: their sums by place, then those of neighbours
        uint64_t above, below;
        memcpy(&above, top + 2 * i, 8);
        memcpy(&below, bottom + 2 * i, 8);
        const uint64_t both = above + below, pairs = (both + (both >> 8)) & 0x00ff00ff00ff00ffull;
        const uint64_t close = (pairs | pairs >> 8) & 0x0000ffff0000ffffull;
        const uint32_t four = static_cast<uint32_t>(close | close >> 16);
        memcpy(to + i, &four, 4);
    }
    for (; i < n; ++i) to[i] = static_cast<uint8_t>(top[2 * i] + top[2 * i + 1] + bottom[2 * i] + bottom[2 * i + 1]);
}
SPIKEFED_APART static void put_channel(const PrunedLayer &a, const uint8_t *fired, uint8_t *out) {
    const int64_t W = a.width, H = a.height;
    for (int64_t y = 0; !a.pool && y < H; ++y) copy_row(fired + y * a.pitch, W, out + y * W);
    for (int64_t y = 0; a.pool && y < H / 2; ++y) pool_row(fired + 2 * y * a.pitch, fired + (2 * y + 1) * a.pitch, W / 2, out + y * (W / 2));
}

// All neurons of a map at a step, N vectors of places at a time, so that their inputs stay near.
template <int N> static void gather_and_fire(const PrunedLayer &a, const PrunedRoom &room, const Neurons &neurons, int64_t t, int64_t &v) {
    const int64_t vecs = padded_vecs(a), wide = vecs * kVec;
    float near[N * kVec];
    for (; v + N <= vecs; v += N)
        for (int64_t c = 0; c < a.out_channels; ++c) {
            const int32_t begin = a.outputs[c];
            gather_vecs<N>(room.x + v * kVec, a.from + begin, a.gathered + begin, a.outputs[c + 1] - begin, near);
            fire_vecs(a, neurons, c, t, near, N, room.left + c * wide + v * kVec, room.fired + c * wide + v * kVec);
        }
}

static void fire_map(const PrunedLayer &a, const PrunedRoom &room, const Neurons &neurons, int64_t t, bool gathered) {
    const int64_t vecs = padded_vecs(a), wide = vecs * kVec, first = a.kernel / 2 * (a.pitch + 1);
    if (!gathered) {
        for (int64_t c = 0; c < a.out_channels; ++c)
            fire_vecs(a, neurons, c, t, room.sums + c * a.plane + first, vecs, room.left + c * wide, room.fired + c * wide);
        return;
    }
    int64_t v = 0;
    gather_and_fire<kRunVecs>(a, room, neurons, t, v);
    gather_and_fire<5>(a, room, neurons, t, v);
    gather_and_fire<2>(a, room, neurons, t, v);
    gather_and_fire<1>(a, room, neurons, t, v);
}

// The sums of a channel at all places.
static void gather_channel(const PrunedLayer &a, int64_t c, const float *x, float *sums) {
    const int32_t begin = a.outputs[c], *from = a.from + begin;
    const int64_t count = a.outputs[c + 1] - begin, vecs = padded_vecs(a);
    int64_t v = 0;
    for (; v + kRunVecs <= vecs; v += kRunVecs) gather_vecs<kRunVecs>(x + v * kVec, from, a.gathered + begin, count, sums + v * kVec);
    for (; v + 2 <= vecs; v += 2) gather_vecs<2>(x + v * kVec, from, a.gathered + begin, count, sums + v * kVec);
    for (; v < vecs; ++v) gather_vecs<1>(x + v * kVec, from, a.gathered + begin, count, sums + v * kVec);
}

// A layer whose input is the same at every step: its sums are made once, and a channel goes through all steps before the next.
template <class E>
static void steady_layer(const PrunedLayer &a, const PrunedRoom &room, const E *from, float share, int64_t steps, uint8_t *out) {
    const int64_t each = numbers_out(a) / a.out_channels, wide = padded_vecs(a) * kVec;
    const Neurons neurons(a);
    expand_map(a, from, share, room.x);
    for (int64_t c = 0; c < a.out_channels; ++c) {
        gather_channel(a, c, room.x, room.sums);
        memset(room.left, 0, sizeof(float) * static_cast<size_t>(wide));
        for (int64_t t = 0; t < steps; ++t) {
            fire_vecs(a, neurons, c, t, room.sums, padded_vecs(a), room.left, room.fired);
            put_channel(a, room.fired, out + t * numbers_out(a) + c * each);
        }
    }
}

// What a step of a layer gives, without borders: bytes `out`, or the numbers of a layer that does not fire.
static void put_map(const PrunedLayer &a, const PrunedRoom &room, uint8_t *out, float *currents) {
    const int64_t wide = padded_vecs(a) * kVec, each = numbers_out(a) / a.out_channels;
    for (int64_t c = 0; c < a.out_channels; ++c) {
        if (a.fires) put_channel(a, room.fired + c * wide, out + c * each);
        for (int64_t y = 0; !a.fires && y < a.height; ++y)
            memcpy(currents + (c * a.height + y) * a.width, room.left + c * wide + y * a.pitch, sizeof(float) * static_cast<size_t>(a.width));
    }
}

// A layer of one sample over all steps. `from`: [T] inputs, `stride` numbers apart; `out` [T] bytes, or `currents`, `next` numbers apart.
template <class E>
static void pruned_layer(const PrunedLayer &a, const PrunedRoom &room, const E *from, int64_t stride, float share, int64_t steps, uint8_t *out,
                         float *currents, int64_t next) {
    const int64_t total = a.outputs[a.out_channels], vecs = padded_vecs(a), inputs = a.in_channels * a.height * a.width;
    const bool line = is_line(a);
    const Neurons neurons(a);
    memset(room.x, 0, sizeof(float) * static_cast<size_t>(a.in_channels * a.plane + kRunVecs * kVec));
    if (stride == 0 && a.fires && !line) return steady_layer(a, room, from, share, steps, out);
    memset(room.left, 0, sizeof(float) * static_cast<size_t>(line ? a.out_channels + kVec : a.out_channels * vecs * kVec));
    for (int64_t i = 0; i < a.height * a.width; ++i) room.place[i] = static_cast<int32_t>(i / a.width * a.pitch + i % a.width + a.kernel / 2 * (a.pitch + 1));
    const float each = kEventCost + kSynapseCost * static_cast<float>(total) / static_cast<float>(a.in_channels);
    for (int64_t t = 0; t < steps; ++t) {
        const E *now = from + t * stride;
        const bool gathered = !line && static_cast<float>(count_nonzero(now, inputs)) * each > kGatherCost * static_cast<float>(total * vecs);
        if (gathered) {
            expand_map(a, now, share, room.x);
        } else {
            memset(room.sums, 0, sizeof(float) * static_cast<size_t>(a.out_channels * a.plane + kVec));
            scatter(a, now, share, room.place, room.sums);
        }
        uint8_t *fired = out ? out + t * numbers_out(a) : nullptr;
        float *numbers = currents ? currents + t * next : nullptr;
        if (line) {
            fire_line(a, neurons, t, room.sums, room.left, fired);
            if (!a.fires) memcpy(numbers, room.left, sizeof(float) * static_cast<size_t>(a.out_channels));
            continue;
        }
        fire_map(a, room, neurons, t, gathered);
        put_map(a, room, fired, numbers);
    }
}

static int64_t pruned_sample(const Pruned &a, const PrunedRoom &room, int64_t sample) {
    const PrunedLayer *last = a.layers + a.count - 1;
    const int64_t next = a.samples * numbers_out(*last);
    float share = 1.0f;
    uint8_t *before = room.before, *after = room.after;
    for (const PrunedLayer *layer = a.layers; layer <= last; ++layer) {
        float *currents = layer->fires ? nullptr : a.out + sample * numbers_out(*layer);
        const int64_t inputs = layer->in_channels * layer->height * layer->width;
        if (layer == a.layers)
            pruned_layer(*layer, room, a.x + sample * inputs, a.repeat ? 0 : a.samples * inputs, 1.0f, a.steps, after, currents, next);
        else
            pruned_layer(*layer, room, before, inputs, share, a.steps, after, currents, next);
        uint8_t *swapped = before;
        before = after, after = swapped;
        share = layer->pool ? 0.25f : 1.0f;
    }
    int64_t found = 0;
    for (int64_t t = 0; last->fires && t < a.steps; ++t) {
        const uint8_t *fired = before + t * numbers_out(*last);
        found += count_nonzero(fired, numbers_out(*last));
        expand(fired, numbers_out(*last), share, a.out + t * next + sample * numbers_out(*last));
    }
    return found;
}

static void pruned(const Pruned &a) {
    int64_t x = 0, sums = 0, left = 0, fired = 0, bytes = 0, places = 0;
    for (int64_t i = 0; i < a.count; ++i) {
        const PrunedLayer &l = a.layers[i];
        const int64_t wide = padded_vecs(l) * kVec;
        x = larger(x, l.in_channels * l.plane);
        sums = larger(sums, l.out_channels * l.plane + wide);
        left = larger(left, l.out_channels * wide);
        fired = larger(fired, l.out_channels * wide);
        places = larger(places, l.height * l.width);
        bytes = larger(bytes, a.steps * numbers_out(l) + kVec);
    }
    int64_t *found = scratch<int64_t>(a.samples);
    parallel(a.samples, a.threads, [&](int64_t begin, int64_t end) {
        const PrunedRoom room{unset<float>(x + 2 * kRunVecs * kVec), unset<float>(sums + 2 * kRunVecs * kVec), unset<float>(left + kVec),
                              unset<uint8_t>(fired + 64), unset<uint8_t>(bytes + 64), unset<uint8_t>(bytes + 64), unset<int32_t>(places)};
        for (int64_t sample = begin; sample < end; ++sample) found[sample] = pruned_sample(a, room, sample);
        release(room.x), release(room.sums), release(room.left), release(room.fired), release(room.before), release(room.after), release(room.place);
    });
    *a.nonzero = 0;
    for (int64_t i = 0; i < a.samples; ++i) *a.nonzero += found[i];
    release(found);
}
