// Kernels compiled for: avx512.
#include "common.h"
#include "events.h"
#include "norm_lif.h"
#include "patterns.h"
#include "square.h"
#include "steps.h"
#include "begin_avx512.inl"
#ifdef SPIKEFED_AVX512
#define SPIKEFED_VARIANT avx512
#include "variant.inl"
#include "end.inl"
#endif
