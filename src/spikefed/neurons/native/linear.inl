// Linear layer whose input is a small channels-last map; products by multiply.inl. Included once per instruction set.

static constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// to[c * to_pitch + r] = from[r * from_pitch + c]
static void transpose_into(const float *from, int64_t from_pitch, float *to, int64_t to_pitch, int64_t rows, int64_t columns) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        int64_t c = 0;
        for (; c + 4 <= columns; c += 4) {
            const float *at = from + r * from_pitch + c;
            __m128 x0 = _mm_loadu_ps(at), x1 = _mm_loadu_ps(at + from_pitch), x2 = _mm_loadu_ps(at + 2 * from_pitch), x3 = _mm_loadu_ps(at + 3 * from_pitch);
            _MM_TRANSPOSE4_PS(x0, x1, x2, x3);
            float *out = to + c * to_pitch + r;
            _mm_storeu_ps(out, x0), _mm_storeu_ps(out + to_pitch, x1), _mm_storeu_ps(out + 2 * to_pitch, x2), _mm_storeu_ps(out + 3 * to_pitch, x3);
        }
        for (; c < columns; ++c)
            for (int64_t i = 0; i < 4; ++i) to[c * to_pitch + r + i] = from[(r + i) * from_pitch + c];
    }
    for (; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) to[c * to_pitch + r] = from[r * from_pitch + c];
}

// Floats from one row to the next: whole panels and an odd number of cache lines, or the rows would push each other out.
static int64_t pitch_of(int64_t width) { return (round_up(width, kPanel) / 16 | 1) * 16; }

// `n` rows of `width` numbers as floats with `pitch` a row, the rest 0.
template <class E> static float *padded_floats(const void *from, int64_t n, int64_t width, int64_t rows, int64_t pitch) {
    float *to = unset<float>(rows * pitch);
    for (int64_t r = 0; r < n; ++r) {
        to_floats(static_cast<const E *>(from) + r * width, to + r * pitch, width);
        memset(to + r * pitch + width, 0, sizeof(float) * static_cast<size_t>(pitch - width));
    }
    memset(to + n * pitch, 0, sizeof(float) * static_cast<size_t>((rows - n) * pitch));
    return to;
}

// The weights [F, C * S] with positions before channels, as x has them: [F][pitch], what lies beyond C * S is 0.
static float *by_position(const Linear &a, int64_t pitch) {
    const int64_t K = a.positions * a.channels;
    float *to = unset<float>(a.outputs * pitch);
    for (int64_t f = 0; f < a.outputs; ++f) {
        float *row = to + f * pitch;
        transpose_into(a.weight + f * K, a.positions, row, a.channels, a.channels, a.positions);
        for (int64_t k = 0; a.dtype == 1 && k < K; ++k) row[k] = rounded(row[k]);
        memset(row + K, 0, sizeof(float) * static_cast<size_t>(pitch - K));
    }
    return to;
}

// c = a [rows][K] * b [K][columns]; `write` gets blocks of kRows x kPanel sums.
template <class F>
static void multiply_all(const float *a, int64_t rows, int64_t a_pitch, const float *b, int64_t b_pitch, int64_t K, int64_t columns, const F &write) {
    float block[kRows * kPanel];
    for (int64_t c = 0; c < columns; c += kPanel)
        for (int64_t r = 0; r < rows; r += kRows) {
            multiply_panel<false>(columns - c, a + r * a_pitch, a_pitch, 1, b + c, b_pitch, K, block, kPanel);
            write(r, c, block);
        }
}

// Rows of a block to `out` [rows][columns], with a bias.
template <class E> static void write_block(const float *block, int64_t r, int64_t c, int64_t rows, int64_t columns, const float *bias, E *out) {
    for (int64_t i = 0; i < smaller(kRows, rows - r); ++i)
        for (int64_t j = 0; j < smaller(kPanel, columns - c); j += kVec) {
            const int64_t lanes = smaller(kVec, columns - c - j);
            Vec v = load_vec(block + i * kPanel + j);
            if (bias) v = v + load_some(bias + c + j, lanes);
            store_some(out + (r + i) * columns + c + j, v, lanes);
        }
}

template <class E> static void linear_forward_typed(const Linear &a) {
    const int64_t K = a.positions * a.channels, F = a.outputs, rows = round_up(a.rows, kRows), pitch = pitch_of(K), wide = pitch_of(round_up(F, kRows));
    float *x = padded_floats<E>(a.x, a.rows, K, rows, pitch), *w = by_position(a, pitch), *turned = scratch<float>(K * wide);
    transpose_into(w, pitch, turned, wide, F, K);
    multiply_all(x, rows, pitch, turned, wide, K, F, [&](int64_t r, int64_t c, const float *block) {
        write_block(block, r, c, a.rows, F, a.bias, static_cast<E *>(a.out));
    });
    release(turned);
    release(w);
    release(x);
}

template <class E> static void linear_input_grad_typed(const Linear &a) {
    const int64_t K = a.positions * a.channels, F = a.outputs, rows = round_up(a.rows, kRows), pitch = pitch_of(K), wide = pitch_of(round_up(F, kRows));
    float *go = padded_floats<E>(a.go, a.rows, F, rows, wide), *w = by_position(a, pitch);
    multiply_all(go, rows, wide, w, pitch, F, K, [&](int64_t r, int64_t c, const float *block) {
        write_block(block, r, c, a.rows, K, nullptr, static_cast<E *>(a.out));
    });
    release(w);
    release(go);
}

template <class E> static void linear_weight_grad_typed(const Linear &a) {
    const int64_t K = a.positions * a.channels, F = a.outputs, pitch = pitch_of(K), wide = pitch_of(round_up(F, kRows));
    float *go = padded_floats<E>(a.go, a.rows, F, a.rows, wide), *x = padded_floats<E>(a.x, a.rows, K, a.rows, pitch);
    float *sums = unset<float>(round_up(F, kRows) * pitch); // [F][position, channel]
    for (int64_t k = 0; k < K; k += kPanel)
        for (int64_t f = 0; f < F; f += kRows)
            multiply_panel<false>(K - k, go + f, 1, wide, x + k, pitch, a.rows, sums + f * pitch + k, pitch);
    for (int64_t f = 0; f < F; ++f) transpose_into(sums + f * pitch, a.channels, a.weight + f * K, a.positions, a.positions, a.channels);
    release(sums);
    release(x);
    release(go);
}

static void linear_forward(const Linear &a) { a.dtype == 0 ? linear_forward_typed<F32>(a) : linear_forward_typed<BF16>(a); }
static void linear_input_grad(const Linear &a) { a.dtype == 0 ? linear_input_grad_typed<F32>(a) : linear_input_grad_typed<BF16>(a); }
static void linear_weight_grad(const Linear &a) { a.dtype == 0 ? linear_weight_grad_typed<F32>(a) : linear_weight_grad_typed<BF16>(a); }
