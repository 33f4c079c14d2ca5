// The kernels of the instruction set in use.
#pragma once
#include "common.h"
#include "events.h"
#include "linear.h"
#include "norm_lif.h"
#include "optimiser.h"
#include "patterns.h"
#include "steps.h"
#include "winograd.h"

namespace spikefed {

struct Kernels {
    const NormLifKernels *norm_lif;
    const EventKernels *events;
    const StepKernels *steps;
    const PatternKernels *patterns;
    const WinogradKernels *winograd; // null: this instruction set has none
    const LinearKernels *linear;     // null as well
    const OptimiserKernels *optimiser; // null as well
};

Kernels kernels_in_use();

} // namespace spikefed
