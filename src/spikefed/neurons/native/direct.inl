// Weight gradient of a 3x3 convolution, stride 1, padding 1, of images with few channels (a network's first layer): taps of one input
// channel and a vector of output channels stay in registers while a row of pixels goes by. Included once per instruction set.
//
// The batch is cut into pieces that depend neither on threads nor on the instruction set, and their sums are added in order.

// An image's channels as planes of floats with a border of zeros: `to` [Ci][H + 2][W + 2], zeros before the first image.
template <class E> static void fill_planes(const Winograd &a, int64_t image, float *to) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, plane = (H + 2) * (W + 2);
    const E *x = static_cast<const E *>(a.x) + image * H * W * Ci;
    for (int64_t h = 0; h < H; ++h)
        for (int64_t w = 0; w < W; ++w)
            for (int64_t c = 0; c < Ci; ++c) to[c * plane + (h + 1) * (W + 2) + w + 1] = load(x[(h * W + w) * Ci + c]);
}

// Adds a row of pixels to the nine `sums` (`pitch` floats apart). `from`: the plane's row above the pixels; `lanes` of the vector count.
template <class E>
static SPIKEFED_INLINE void add_row(const E *go, int64_t step, const float *from, int64_t line, int64_t columns, int64_t lanes, float *sums, int64_t pitch) {
    Vec s[9];
    SPIKEFED_UNROLL_ALL
    for (int tap = 0; tap < 9; ++tap) s[tap] = load_vec(sums + tap * pitch);
    for (int64_t w = 0; w < columns; ++w) {
        SPIKEFED_PREFETCH(go + (w + 16) * step, 0);
        const Vec g = load_some(go + w * step, lanes);
        SPIKEFED_UNROLL_ALL
        for (int tap = 0; tap < 9; ++tap) s[tap] = SPIKEFED_FMA(broadcast(from[tap / 3 * line + w + tap % 3]), g, s[tap]);
    }
    SPIKEFED_UNROLL_ALL
    for (int tap = 0; tap < 9; ++tap) store_vec(sums + tap * pitch, s[tap]);
}

template <class E> static void direct_typed(const Winograd &a) {
    const int64_t H = a.height, W = a.width, Ci = a.in_channels, Co = a.out_channels, plane = (H + 2) * (W + 2);
    const int64_t pitch = (Co + kVec - 1) / kVec * kVec, size = Ci * 9 * pitch, pieces = smaller(kPieces, a.images);
    float *sums = scratch<float>(pieces * size);
    parallel(pieces, a.threads, [&](int64_t begin, int64_t end) {
        float *planes = scratch<float>(Ci * plane);
        for (int64_t piece = begin; piece < end; ++piece)
            for (int64_t image = a.images * piece / pieces; image < a.images * (piece + 1) / pieces; ++image) {
                fill_planes<E>(a, image, planes);
                for (int64_t h = 0; h < H; ++h) {
                    const E *go = static_cast<const E *>(a.go) + (image * H + h) * W * Co;
                    for (int64_t v = 0; v < Co; v += kVec)
                        for (int64_t c = 0; c < Ci; ++c)
                            add_row(go + v, Co, planes + c * plane + h * (W + 2), W + 2, W, smaller(kVec, Co - v), sums + piece * size + c * 9 * pitch + v, pitch);
                }
            }
        release(planes);
    });
    for (int64_t o = 0; o < Co; ++o)
        for (int64_t k = 0; k < Ci * 9; ++k) {
            float s = 0;
            for (int64_t piece = 0; piece < pieces; ++piece) s += sums[piece * size + k * pitch + o];
            a.weight[o * Ci * 9 + k] = s;
        }
    release(sums);
}

static void direct_weight_grad(const Winograd &a) { a.dtype == 0 ? direct_typed<F32>(a) : direct_typed<BF16>(a); }
