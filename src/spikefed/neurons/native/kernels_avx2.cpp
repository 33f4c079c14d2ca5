// Kernels compiled for: avx2.
#include "common.h"
#include "events.h"
#include "norm_lif.h"
#include "patterns.h"
#include "square.h"
#include "steps.h"
#include "begin_avx2.inl"
#ifdef SPIKEFED_AVX2
#define SPIKEFED_VARIANT avx2
#include "variant.inl"
#include "end.inl"
#endif
