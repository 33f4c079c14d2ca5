// Kernels compiled for: portable.
#include "common.h"
#include "events.h"
#include "norm_lif.h"
#include "patterns.h"
#include "square.h"
#include "steps.h"
#include <cmath>
#include <cstdlib>
#include <cstring>

#define SPIKEFED_VARIANT portable
#include "variant.inl"
