"""Spiking neurons: equations, surrogate gradients, input coding, and the fused operations networks are built from."""

from spikefed.neurons.encoding import Bernoulli, Direct, Encoder, SendOnDelta, SignedPoisson, encoder
from spikefed.neurons.functional import if_, lif, lif_hard, lif_soft, lif_step, spike
from spikefed.neurons.kernels import kernels, use_kernels
from spikefed.neurons.modules import IF, LIF
from spikefed.neurons.norm_lif import norm_lif
from spikefed.neurons.normalise import Norm, normalise
from spikefed.neurons.ops import spike_conv2d, spike_linear
from spikefed.neurons.parameters import LIFParameters
from spikefed.neurons.paths import Choice, record_paths
from spikefed.neurons.processor import fastest_precision, settle_precision, why_slow
from spikefed.neurons.surrogates import ATan, Rectangle, Surrogate, Triangle, surrogate

__all__ = [
    "ATan",
    "Bernoulli",
    "Choice",
    "Direct",
    "Encoder",
    "IF",
    "LIF",
    "LIFParameters",
    "Norm",
    "Rectangle",
    "SendOnDelta",
    "SignedPoisson",
    "Surrogate",
    "Triangle",
    "encoder",
    "fastest_precision",
    "if_",
    "kernels",
    "lif",
    "lif_hard",
    "lif_soft",
    "lif_step",
    "norm_lif",
    "normalise",
    "record_paths",
    "settle_precision",
    "spike",
    "spike_conv2d",
    "spike_linear",
    "surrogate",
    "use_kernels",
    "why_slow",
]
