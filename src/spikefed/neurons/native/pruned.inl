// Pruned layers in a row: product with the weights that are left, normalisation, neurons, pool, one sample after the other.
// Included once per instruction set, after pruned_steps.inl (see norm_lif.inl for the rules).
//
// Up to eight steps are worked on together, so that a weight, an index and the place of an event are read once for all of them and the
// membrane stays in a register. Maps are planar and spikes are bytes (0 and 1; behind a pool, how many of four fired). Two ways:
// by weight, where neighbouring places are a vector and a weight meets the vectors of all steps; by event, where an input that fires at any
// step adds its synapses to sums whose vectors are the steps. Which of them a layer takes follows from the sample's own inputs alone,
// so that a sample's result depends neither on the batch nor on threads.

static constexpr int kAccumulators = kVec == 16 ? 16 : 8; // vectors of sums in registers
static constexpr float kEventCost = 10.0f;     // about cycles: an input that is not zero at every step,
static constexpr float kSynapseCost = 2.0f;    // one of its synapses,
static constexpr float kTurnCost = 6.0f;       // a vector of sums that is emptied and turned,
static constexpr float kGatherCost = 1.5f;     // a weight and a vector of inputs

// Bytes for the layer that follows: [parts of kSlots steps][planes][slots][plane].
struct PrunedMap {
    int64_t planes, length, plane, pitch, origin; // `length` numbers of a plane mean something; place 0, 0 lies at `origin`
    bool line;                                    // one plane of features
};

struct PrunedEvent {
    float values[kSlots];
    int32_t input, place; // channel and place in the padded plane; feature and 0
};

// What a thread works with, large enough for every layer.
struct PrunedRoom {
    float *x;                // [C, slots, plane]: inputs that are no bytes
    float *sums, *left;      // [group, plane, kSlots], [Co, places]
    float *numbers;          // [slots, places] of a channel that does not fire
    uint8_t *fired;          // [slots, places] of a channel
    uint8_t *before, *after; // a layer's input and output
    PrunedEvent *events;
};

static int64_t round16(int64_t n) { return (n + 15) / 16 * 16; }
static int64_t padded_vecs(const PrunedLayer &a) { // vectors of a plane's sums
    return ((a.height - 1) * a.pitch + a.width + kVec - 1) / kVec;
}
static bool is_line(const PrunedLayer &a) { return a.height * a.width == 1 && a.kernel == 1; } // channels lie side by side
static int64_t rows_out(const PrunedLayer &a) { return a.pool ? a.height / 2 : a.height; }
static int64_t columns_out(const PrunedLayer &a) { return a.pool ? a.width / 2 : a.width; }
static int64_t numbers_out(const PrunedLayer &a) { return a.out_channels * rows_out(a) * columns_out(a); }
static int64_t origin_of(const PrunedLayer &a) { return a.kernel / 2 * (a.pitch + 1); }

static PrunedMap map_between(const PrunedLayer &a, const PrunedLayer *next) {
    if (next && !is_line(*next)) return PrunedMap{next->in_channels, next->plane, next->plane, next->pitch, origin_of(*next), false};
    if (is_line(a)) return PrunedMap{1, a.out_channels, round16(a.out_channels), a.out_channels, 0, true};
    const int64_t length = rows_out(a) * columns_out(a);
    return PrunedMap{a.out_channels, length, round16(length), columns_out(a), 0, false};
}

struct Neurons {
    const bool soft;
    const Vec decay, fire, theta, zero;
    explicit Neurons(const PrunedLayer &a)
        : soft(a.soft), decay(broadcast(a.decay)), fire(broadcast(a.fire)), theta(broadcast(a.theta)), zero(broadcast(0.0f)) {}
    SPIKEFED_INLINE uint32_t charge(Vec &left, const Vec &y) const {
        const Vec u = left + y;
        const Mask fired = at_least(u, fire);
        left = soft ? decay * (u - choose(fired, theta, zero)) : choose(fired, zero, decay * u);
        return bits_of(fired);
    }
};

// Some neighbours of a channel: sums[t * apart] at the steps of a part to bytes, or to numbers where nothing fires.
struct PrunedTarget {
    uint8_t *fired;
    float *numbers;
    int64_t step; // from one step's to the next
};
template <int T>
static SPIKEFED_INLINE void fire_steps(const PrunedLayer &a, const Neurons &neurons, int64_t at, const Vec *sums, int apart, float *left, bool carried,
                                       const PrunedTarget &to, int64_t place, uint32_t valid) {
    Vec u = carried ? load_vec(left) : neurons.zero;
    SPIKEFED_UNROLL_ALL
    for (int t = 0; t < T; ++t) {
        const Vec y = SPIKEFED_FMA(sums[t * apart], broadcast(a.slope[at + t * a.next]), broadcast(a.offset[at + t * a.next]));
        if (a.fires)
            store_fired(to.fired + t * to.step + place, neurons.charge(u, y) & valid);
        else
            store_vec(to.numbers + t * to.step + place, y);
    }
    if (left) store_vec(left, u);
}

// A plane of the next layer's input, from a plane of the same rows or from one whose places are pooled.
SPIKEFED_APART static void put_plane(const PrunedLayer &a, const uint8_t *fired, const PrunedMap &map, uint8_t *to) {
    const int64_t W = a.width, H = a.height;
    memset(to, 0, static_cast<size_t>(map.plane));
    to += map.origin;
    for (int64_t y = 0; !a.pool && y < H; ++y) copy_row(fired + y * a.pitch, W, to + y * map.pitch);
    for (int64_t y = 0; a.pool && y < H / 2; ++y) pool_row(fired + 2 * y * a.pitch, fired + (2 * y + 1) * a.pitch, W / 2, to + y * map.pitch);
}

// V vectors of places at T steps.
template <int V, int T, class E>
static SPIKEFED_INLINE void gather_steps(const E *x, int64_t plane, const int32_t *from, const float *value, int64_t count, Vec *sums) {
    SPIKEFED_UNROLL_ALL
    for (int i = 0; i < V * T; ++i) sums[i] = broadcast(0.0f);
    for (int64_t e = 0; e < count; ++e) {
        const E *at = x + from[e];
        const Vec w = broadcast(value[e]);
        SPIKEFED_UNROLL_ALL
        for (int t = 0; t < T; ++t)
            SPIKEFED_UNROLL_ALL
            for (int v = 0; v < V; ++v) sums[t * V + v] = SPIKEFED_FMA(w, load_map(at + t * plane + v * kVec), sums[t * V + v]);
    }
}

// One part of a layer's steps.
struct PrunedPart {
    const PrunedLayer &a;
    const PrunedRoom &room;
    const PrunedMap &map;  // of the output
    const uint16_t *valid; // by vector of places: those that are no border
    const Neurons neurons;
    int64_t first, slots;   // step; steps whose places are kept
    bool more;              // the membrane is needed again
    uint8_t *out;           // [planes, slots, plane]
    float *numbers;         // of the first step, where nothing fires
    int64_t next;           // from one step's to the next
    bool direct() const { return a.fires && !a.pool && map.pitch == a.pitch && map.origin == origin_of(a); }
    float *left(int64_t c) const { return more || first ? room.left + c * padded_vecs(a) * kVec : nullptr; }
    PrunedTarget target(int64_t c) const {
        const int64_t wide = padded_vecs(a) * kVec;
        if (direct()) return PrunedTarget{out + c * slots * map.plane + map.origin, nullptr, map.plane};
        return PrunedTarget{room.fired, room.numbers, wide};
    }
    void put(int64_t c, int64_t steps) const { // what a channel's target holds
        const int64_t wide = padded_vecs(a) * kVec, end = map.origin + wide;
        for (int64_t t = 0; t < steps; ++t) {
            uint8_t *to = out + (c * slots + t) * map.plane;
            if (direct()) {
                memset(to, 0, static_cast<size_t>(map.origin));
                memset(to + end, 0, static_cast<size_t>(map.plane - end));
            } else if (a.fires) {
                put_plane(a, room.fired + t * wide, map, to);
            } else {
                for (int64_t y = 0; y < a.height; ++y)
                    memcpy(numbers + t * next + (c * a.height + y) * a.width, room.numbers + t * wide + y * a.pitch,
                           sizeof(float) * static_cast<size_t>(a.width));
            }
        }
    }
};

template <int V, int T, class E> static SPIKEFED_INLINE int64_t gather_and_fire(const PrunedPart &p, const E *x, int64_t c, int64_t v) {
    const PrunedLayer &a = p.a;
    const int64_t vecs = padded_vecs(a);
    const int32_t begin = a.outputs[c], count = a.outputs[c + 1] - begin;
    const PrunedTarget to = p.target(c);
    float *left = p.left(c);
    Vec sums[V * T];
    for (; v + V <= vecs; v += V) {
        gather_steps<V, T>(x + v * kVec, a.plane, a.from + begin, a.gathered + begin, count, sums);
        SPIKEFED_UNROLL_ALL
        for (int i = 0; i < V; ++i)
            fire_steps<T>(a, p.neurons, p.first * a.next + c, sums + i, V, left ? left + (v + i) * kVec : nullptr, p.first > 0, to, (v + i) * kVec,
                          p.valid[v + i]);
    }
    return v;
}

template <int T, class E> static void part_by_weight(const PrunedPart &p, const E *x) {
    constexpr int V = kAccumulators / T > 0 ? kAccumulators / T : 1;
    for (int64_t c = 0; c < p.a.out_channels; ++c) {
        const int64_t v = gather_and_fire<V, T>(p, x, c, 0);
        if (V > 1) gather_and_fire<1, T>(p, x, c, v);
        p.put(c, T);
    }
}

static void scatter_events(const PrunedLayer &a, const int32_t *inputs, const PrunedEvent *events, int64_t count, float *sums) {
    for (int64_t i = 0; i < count; ++i) {
        const PrunedEvent &event = events[i];
        const int32_t begin = inputs[event.input], end = inputs[event.input + 1];
        const Eight x = load_eight(event.values);
        float *at = sums + event.place * kSlots;
        for (int32_t e = begin; e < end; ++e) add_scaled(at + static_cast<int64_t>(a.to[e]) * kSlots, a.scattered[e], x);
    }
}

template <int T> static void part_by_event(const PrunedPart &p, int64_t events) {
    const PrunedLayer &a = p.a;
    const int64_t vecs = padded_vecs(a), origin = origin_of(a);
    for (int64_t first = 0, g = 0; first < a.out_channels; first += a.group, ++g) {
        const int64_t count = smaller(a.group, a.out_channels - first);
        memset(p.room.sums, 0, sizeof(float) * static_cast<size_t>(count * a.plane * kSlots));
        scatter_events(a, a.inputs + g * a.in_channels, p.room.events, events, p.room.sums);
        for (int64_t c = first; c < first + count; ++c) {
            const float *sums = p.room.sums + ((c - first) * a.plane + origin) * kSlots;
            const PrunedTarget to = p.target(c);
            float *left = p.left(c);
            for (int64_t v = 0; v < vecs; ++v) {
                Vec turned[kSlots];
                turn_steps(sums + v * kVec * kSlots, turned);
                fire_steps<T>(a, p.neurons, p.first * a.next + c, turned, 1, left ? left + v * kVec : nullptr, p.first > 0, to, v * kVec,
                              p.valid[v]);
            }
            p.put(c, T);
        }
    }
}

// A linear layer's channels lie side by side, and its way is by event.
static void part_of_line(const PrunedPart &p, int64_t events, int64_t steps) {
    const PrunedLayer &a = p.a;
    const int64_t C = a.out_channels;
    memset(p.room.sums, 0, sizeof(float) * static_cast<size_t>(round16(C) * kSlots));
    if (a.fires && !p.map.line) memset(p.out, 0, static_cast<size_t>(p.map.planes * p.slots * p.map.plane));
    scatter_events(a, a.inputs, p.room.events, events, p.room.sums);
    for (int64_t c = 0; c < C; c += kVec) {
        const int64_t n = smaller(kVec, C - c);
        Vec turned[kSlots], u = p.first ? load_vec(p.room.left + c) : p.neurons.zero;
        turn_steps(p.room.sums + c * kSlots, turned);
        for (int64_t t = 0; t < steps; ++t) {
            const int64_t at = (p.first + t) * a.next + c;
            const Vec y = SPIKEFED_FMA(turned[t], load_some(a.slope + at, n), load_some(a.offset + at, n));
            if (!a.fires)
                store_some(p.numbers + t * p.next + c, y, n);
            else if (p.map.line)
                store_fired(p.out + t * p.map.plane + c, p.neurons.charge(u, y) & ((1u << n) - 1));
            else // a convolution of single places follows
                for (uint32_t i = 0, bits = p.neurons.charge(u, y); i < n; ++i)
                    p.out[((c + i) * p.slots + t) * p.map.plane + p.map.origin] = bits >> i & 1u;
        }
        store_vec(p.room.left + c, u);
    }
}

// Where a part's inputs lie: step t of plane c at from + c * channel + t * step.
struct PrunedSource {
    int64_t planes, length, channel, step;
};
template <class E> static SPIKEFED_INLINE uint32_t active(const E *near, const PrunedSource &s, int64_t left, int64_t steps) { // a bit a number
    if (left >= 16) return active16(near, s.step, steps);
    uint32_t bits = 0;
    for (int64_t t = 0; t < steps; ++t)
        for (int64_t i = 0; i < left; ++i) bits |= static_cast<uint32_t>(near[t * s.step + i] != 0) << i;
    return bits;
}
template <class E> static int64_t count_active(const E *from, const PrunedSource &s, int64_t steps) {
    int64_t found = 0;
    for (int64_t c = 0; c < s.planes; ++c)
        for (int64_t i = 0; i < s.length; i += 16) found += count_bits(active(from + c * s.channel + i, s, s.length - i, steps));
    return found;
}
template <class E> static int64_t list_active(const E *from, const PrunedSource &s, bool line, int64_t steps, PrunedEvent *events) {
    PrunedEvent *event = events;
    for (int64_t c = 0; c < s.planes; ++c)
        for (int64_t i = 0; i < s.length; i += 16) {
            const E *near = from + c * s.channel + i;
            for (uint32_t some = active(near, s, s.length - i, steps); some; some &= some - 1, ++event) {
                const int64_t at = lowest_bit(some);
                event->input = static_cast<int32_t>(line ? c * s.length + i + at : c);
                event->place = static_cast<int32_t>(line ? 0 : i + at);
                for (int64_t t = 0; t < kSlots; ++t) event->values[t] = t < steps ? static_cast<float>(near[t * s.step + at]) : 0.0f;
            }
        }
    return event - events;
}

template <int T, class E> static void part_of_map(const PrunedPart &p, const E *x, const PrunedSource &source) {
    const PrunedLayer &a = p.a;
    const float total = static_cast<float>(a.outputs[a.out_channels]), vecs = static_cast<float>(padded_vecs(a));
    const float groups = static_cast<float>((a.out_channels + a.group - 1) / a.group);
    const float each = kEventCost * groups + kSynapseCost * total / static_cast<float>(a.in_channels);
    const float turns = kTurnCost * kSlots * static_cast<float>(a.out_channels) * vecs;
    if (static_cast<float>(count_active(x, source, T)) * each + turns > kGatherCost * T * total * vecs) return part_by_weight<T>(p, x);
    part_by_event<T>(p, list_active(x, source, false, T, p.room.events));
}
template <class E> static void part_of_steps(const PrunedPart &p, const E *x, const PrunedSource &source, int64_t steps) {
    if (is_line(p.a)) return part_of_line(p, list_active(x, source, true, steps, p.room.events), steps);
    switch (steps) {
    case 1: return part_of_map<1>(p, x, source);
    case 2: return part_of_map<2>(p, x, source);
    case 3: return part_of_map<3>(p, x, source);
    case 4: return part_of_map<4>(p, x, source);
    case 5: return part_of_map<5>(p, x, source);
    case 6: return part_of_map<6>(p, x, source);
    case 7: return part_of_map<7>(p, x, source);
    default: return part_of_map<8>(p, x, source);
    }
}

// A map of numbers to the padded buffer, at step `t` of `slots`.
static void expand_map(const PrunedLayer &a, const float *from, int64_t t, int64_t slots, float *x) {
    for (int64_t c = 0; c < a.in_channels; ++c)
        for (int64_t y = 0; y < a.height; ++y)
            memcpy(x + (c * slots + t) * a.plane + origin_of(a) + y * a.pitch, from + (c * a.height + y) * a.width,
                   sizeof(float) * static_cast<size_t>(a.width));
}

// A layer whose input is the same at every step: its sums serve all steps of a part.
template <int V> static SPIKEFED_INLINE int64_t steady_vecs(const PrunedPart &p, int64_t c, int64_t v, int64_t steps) {
    const PrunedLayer &a = p.a;
    const int64_t vecs = padded_vecs(a);
    const int32_t begin = a.outputs[c], count = a.outputs[c + 1] - begin;
    const PrunedTarget to = p.target(c);
    float *left = p.left(c);
    Vec sums[V];
    for (; v + V <= vecs; v += V) {
        gather_steps<V, 1>(p.room.x + v * kVec, a.plane, a.from + begin, a.gathered + begin, count, sums);
        for (int i = 0; i < V; ++i) {
            Vec u = p.first ? load_vec(left + (v + i) * kVec) : p.neurons.zero;
            for (int64_t t = 0; t < steps; ++t) {
                const int64_t at = (p.first + t) * a.next + c;
                const Vec y = SPIKEFED_FMA(sums[i], broadcast(a.slope[at]), broadcast(a.offset[at]));
                store_fired(to.fired + t * to.step + (v + i) * kVec, p.neurons.charge(u, y) & p.valid[v + i]);
            }
            if (left) store_vec(left + (v + i) * kVec, u);
        }
    }
    return v;
}
static void steady_part(const PrunedPart &p, int64_t steps) {
    for (int64_t c = 0; c < p.a.out_channels; ++c) {
        steady_vecs<1>(p, c, steady_vecs<8>(p, c, 0, steps), steps);
        p.put(c, steps);
    }
}

// What all layers of a sample share.
struct PrunedCall {
    const Pruned &a;
    const PrunedRoom &room;
    int64_t slots;
};
static PrunedPart part_at(const PrunedCall &call, const PrunedLayer &layer, const PrunedMap &map, const uint16_t *valid, int64_t first, int64_t sample) {
    const int64_t each = numbers_out(layer), next = call.a.samples * each;
    float *numbers = layer.fires ? nullptr : call.a.out + first * next + sample * each;
    uint8_t *out = call.room.after + first / kSlots * map.planes * call.slots * map.plane;
    return PrunedPart{layer, call.room, map, valid, Neurons(layer), first, call.slots, first + kSlots < call.a.steps, out, numbers, next};
}
static void first_layer(const PrunedCall &call, const PrunedMap &map, const uint16_t *valid, int64_t sample) {
    const PrunedLayer &a = *call.a.layers;
    const int64_t inputs = a.in_channels * a.height * a.width, next = call.a.repeat ? 0 : call.a.samples * inputs;
    const int64_t slots = call.a.repeat ? 1 : call.slots;
    const float *x = call.a.x + sample * inputs;
    if (!is_line(a)) memset(call.room.x, 0, sizeof(float) * static_cast<size_t>(a.in_channels * slots * a.plane));
    for (int64_t first = 0; first < call.a.steps; first += kSlots) {
        const PrunedPart part = part_at(call, a, map, valid, first, sample);
        const int64_t steps = smaller(kSlots, call.a.steps - first);
        if (is_line(a)) {
            part_of_steps(part, x + first * next, PrunedSource{1, inputs, 0, next}, steps);
        } else if (call.a.repeat) {
            if (!first) expand_map(a, x, 0, 1, call.room.x);
            steady_part(part, steps);
        } else {
            for (int64_t t = 0; t < steps; ++t) expand_map(a, x + (first + t) * next, t, slots, call.room.x);
            part_of_steps(part, call.room.x, PrunedSource{a.in_channels, a.plane, slots * a.plane, a.plane}, steps);
        }
    }
}
static void later_layer(const PrunedCall &call, const PrunedLayer &a, const PrunedMap &before, const PrunedMap &map, const uint16_t *valid,
                        int64_t sample) {
    const PrunedSource source{before.planes, before.length, call.slots * before.plane, before.plane};
    for (int64_t first = 0; first < call.a.steps; first += kSlots) {
        const uint8_t *in = call.room.before + first / kSlots * before.planes * call.slots * before.plane;
        part_of_steps(part_at(call, a, map, valid, first, sample), in, source, smaller(kSlots, call.a.steps - first));
    }
}

// The last layer's spikes as numbers; how many are not zero.
static int64_t put_numbers(const PrunedCall &call, const PrunedLayer &last, const PrunedMap &map, const uint8_t *from, int64_t sample) {
    const int64_t each = numbers_out(last);
    const float share = last.pool ? 0.25f : 1.0f;
    int64_t found = 0;
    for (int64_t t = 0; t < call.a.steps; ++t)
        for (int64_t c = 0; c < map.planes; ++c) {
            const uint8_t *plane = from + ((t / kSlots * map.planes + c) * call.slots + t % kSlots) * map.plane;
            float *to = call.a.out + (t * call.a.samples + sample) * each + c * map.length;
            for (int64_t i = 0; i < map.length; ++i) {
                to[i] = share * static_cast<float>(plane[i]);
                found += plane[i] != 0;
            }
        }
    return found;
}

static int64_t pruned_sample(const Pruned &a, PrunedRoom room, const uint16_t *valid, int64_t sample) {
    const PrunedLayer *last = a.layers + a.count - 1;
    PrunedMap before{};
    for (const PrunedLayer *layer = a.layers; layer <= last; ++layer) {
        const PrunedCall call{a, room, smaller(a.steps, kSlots)};
        const PrunedMap map = map_between(*layer, layer < last ? layer + 1 : nullptr);
        if (layer == a.layers)
            first_layer(call, map, valid, sample);
        else
            later_layer(call, *layer, before, map, valid, sample);
        uint8_t *swapped = room.before;
        room.before = room.after, room.after = swapped;
        before = map;
        valid += padded_vecs(*layer);
    }
    return last->fires ? put_numbers(PrunedCall{a, room, smaller(a.steps, kSlots)}, *last, before, room.before, sample) : 0;
}

static void mark_valid(const PrunedLayer &a, uint16_t *valid) {
    for (int64_t v = 0; v < padded_vecs(a); ++v) {
        valid[v] = 0;
        for (int64_t i = 0; i < kVec; ++i) {
            const int64_t place = v * kVec + i;
            if (place % a.pitch < a.width && place / a.pitch < a.height) valid[v] |= static_cast<uint16_t>(1u << i);
        }
    }
}

static void pruned(const Pruned &a) {
    const int64_t slots = smaller(a.steps, kSlots), parts = (a.steps + kSlots - 1) / kSlots;
    int64_t x = 0, sums = 0, left = 0, row = 0, bytes = 0, vecs = 0, events = 0;
    for (int64_t i = 0; i < a.count; ++i) {
        const PrunedLayer &l = a.layers[i];
        const PrunedMap map = map_between(l, i + 1 < a.count ? &a.layers[i + 1] : nullptr);
        const int64_t wide = padded_vecs(l) * kVec, group = is_line(l) ? round16(l.out_channels) : smaller(l.group, l.out_channels);
        if (i == 0 && !is_line(l)) x = l.in_channels * (a.repeat ? 1 : slots) * l.plane;
        sums = larger(sums, group * l.plane * kSlots);
        left = larger(left, l.out_channels * wide);
        row = larger(row, slots * wide);
        bytes = larger(bytes, parts * map.planes * slots * map.plane);
        events = larger(events, l.in_channels * l.height * l.width);
        vecs += padded_vecs(l);
    }
    uint16_t *valid = scratch<uint16_t>(vecs);
    int64_t *found = scratch<int64_t>(a.samples);
    for (int64_t i = 0, v = 0; i < a.count; v += padded_vecs(a.layers[i]), ++i) mark_valid(a.layers[i], valid + v);
    parallel(a.samples, a.threads, [&](int64_t begin, int64_t end) {
        const int64_t over = 8 * kVec; // vectors at a plane's end reach beyond it
        const PrunedRoom room{unset<float>(x + over),      unset<float>(sums + over * kSlots), unset<float>(left + over), unset<float>(row + over),
                              unset<uint8_t>(row + over),  unset<uint8_t>(bytes + over),       unset<uint8_t>(bytes + over),
                              unset<PrunedEvent>(events + 1)};
        for (int64_t sample = begin; sample < end; ++sample) found[sample] = pruned_sample(a, room, valid, sample);
        release(room.x), release(room.sums), release(room.left), release(room.numbers), release(room.fired), release(room.before);
        release(room.after), release(room.events);
    });
    *a.nonzero = 0;
    for (int64_t i = 0; i < a.samples; ++i) *a.nonzero += found[i];
    release(valid), release(found);
}
