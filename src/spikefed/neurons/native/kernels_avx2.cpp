// Kernels compiled for: avx2.
#include "common.h"
#include "events.h"
#include "norm_lif.h"
#include "patterns.h"
#include "square.h"
#include "steps.h"
#include <cmath>
#include <cstdlib>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define SPIKEFED_AVX2 1
#define SPIKEFED_VARIANT avx2
#include "variant.inl"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
