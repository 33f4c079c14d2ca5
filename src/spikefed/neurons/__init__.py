"""Spiking neurons: equations, surrogate gradients, input coding, and the fused operations networks are built from."""

from spikefed.neurons.chain import ChainLayer, run_chain
from spikefed.neurons.chainsteps import ChainSteps, chain_steps
from spikefed.neurons.codes import fire_both
from spikefed.neurons.dense import Products
from spikefed.neurons.encoding import Bernoulli, Direct, Encoder, Latency, SendOnDelta, SignedPoisson, encoder
from spikefed.neurons.firing import Firing, NormState
from spikefed.neurons.functional import if_, lif, lif_hard, lif_soft, lif_step, spike
from spikefed.neurons.gradients import (
    conv2d_gradient,
    conv2d_sample_sums,
    linear_gradient,
    norm_lif_gradient,
)
from spikefed.neurons.halved import normalised_halves
from spikefed.neurons.halved import suits as halves_suit
from spikefed.neurons.joined import Branch, join_lif, joins
from spikefed.neurons.kernels import kernels, use_kernels
from spikefed.neurons.modules import IF, LIF
from spikefed.neurons.norm_lif import norm_lif
from spikefed.neurons.normalise import Norm, normalise, normalise_each, normalise_pooled
from spikefed.neurons.ops import spike_conv2d, spike_linear
from spikefed.neurons.parameters import LIFParameters
from spikefed.neurons.paths import Choice, record_paths, recording
from spikefed.neurons.patterns import pattern_gradient, pattern_spikes, patterns_suit, table_of_patches
from spikefed.neurons.processor import fastest_precision, settle_precision, why_slow
from spikefed.neurons.pruned import run_pruned
from spikefed.neurons.samples import SampleSums
from spikefed.neurons.sides import Sides, pair, same_padding
from spikefed.neurons.surrogates import ATan, Rectangle, Surrogate, Triangle, surrogate
from spikefed.neurons.synapses import dense_weights, few_weights
from spikefed.neurons.winograd import library as dense_library

__all__ = [
    "ATan",
    "Bernoulli",
    "Branch",
    "ChainLayer",
    "ChainSteps",
    "Choice",
    "Direct",
    "Encoder",
    "Firing",
    "IF",
    "LIF",
    "LIFParameters",
    "Latency",
    "Norm",
    "NormState",
    "Products",
    "Rectangle",
    "SampleSums",
    "SendOnDelta",
    "Sides",
    "SignedPoisson",
    "Surrogate",
    "Triangle",
    "chain_steps",
    "conv2d_gradient",
    "conv2d_sample_sums",
    "dense_library",
    "dense_weights",
    "encoder",
    "fastest_precision",
    "few_weights",
    "fire_both",
    "halves_suit",
    "if_",
    "join_lif",
    "joins",
    "kernels",
    "lif",
    "lif_hard",
    "lif_soft",
    "lif_step",
    "linear_gradient",
    "norm_lif",
    "norm_lif_gradient",
    "normalise",
    "normalise_each",
    "normalise_pooled",
    "normalised_halves",
    "pair",
    "pattern_gradient",
    "pattern_spikes",
    "patterns_suit",
    "record_paths",
    "recording",
    "run_chain",
    "run_pruned",
    "same_padding",
    "settle_precision",
    "spike",
    "spike_conv2d",
    "spike_linear",
    "surrogate",
    "table_of_patches",
    "use_kernels",
    "why_slow",
]
