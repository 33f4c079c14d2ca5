// The inner loop of every dense product: kRows x kPanel sums in registers. Included once per instruction set.

#if defined(SPIKEFED_AVX512)
static constexpr int kRows = 12, kWide = 2;
#else
static constexpr int kRows = 6, kWide = 2;
#endif
static constexpr int64_t kPanel = kWide * kVec;

// c [kRows][WIDE vectors] = a [kRows][K] * b [K][WIDE vectors], or += (ADD). Number (row, k) of a stands at a[row * a_row + k * a_step].
template <bool ADD, int WIDE>
static SPIKEFED_INLINE void multiply(const float *__restrict a, int64_t a_row, int64_t a_step, const float *__restrict b, int64_t b_row,
                                     int64_t K, float *__restrict c, int64_t c_row) {
    Vec sums[kRows][WIDE];
    SPIKEFED_UNROLL_ALL
    for (int r = 0; r < kRows; ++r) {
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < WIDE; ++v) sums[r][v] = broadcast(0.0f);
    }
    for (int64_t k = 0; k < K; ++k) {
        Vec w[WIDE];
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < WIDE; ++v) w[v] = load_vec(b + k * b_row + v * kVec);
        SPIKEFED_UNROLL_ALL
        for (int r = 0; r < kRows; ++r) {
            const Vec x = broadcast(a[r * a_row + k * a_step]);
            SPIKEFED_UNROLL_ALL
            for (int v = 0; v < WIDE; ++v) sums[r][v] = SPIKEFED_FMA(x, w[v], sums[r][v]);
        }
    }
    SPIKEFED_UNROLL_ALL
    for (int r = 0; r < kRows; ++r) {
        SPIKEFED_UNROLL_ALL
        for (int v = 0; v < WIDE; ++v) {
            float *to = c + r * c_row + v * kVec;
            store_vec(to, ADD ? load_vec(to) + sums[r][v] : sums[r][v]);
        }
    }
}

// The same for `columns` of a panel: half of its work where half of it is empty.
template <bool ADD>
static void multiply_panel(int64_t columns, const float *a, int64_t a_row, int64_t a_step, const float *b, int64_t b_row, int64_t K, float *c,
                           int64_t c_row) {
    columns > kVec ? multiply<ADD, kWide>(a, a_row, a_step, b, b_row, K, c, c_row) : multiply<ADD, 1>(a, a_row, a_step, b, b_row, K, c, c_row);
}

// Numbers of either precision to floats and back; n of them.
template <class E> static void to_floats(const E *from, float *to, int64_t n) {
    for (int64_t i = 0; i < n; i += kVec) {
        const int64_t lanes = smaller(kVec, n - i);
        store_some(to + i, load_some(from + i, lanes), lanes);
    }
}
template <class E> static void from_floats(const float *from, E *to, int64_t n) {
    for (int64_t i = 0; i < n; i += kVec) {
        const int64_t lanes = smaller(kVec, n - i);
        store_some(to + i, load_some(from + i, lanes), lanes);
    }
}
static float rounded(float v) { // to bfloat16
    uint16_t bits;
    store(&bits, v);
    return load(bits);
}
