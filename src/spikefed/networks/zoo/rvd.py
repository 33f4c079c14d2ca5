"""The networks of the study of rate and direct coding (Kim et al., ICASSP 2022; public code Rate-vs-Direct).

No bias, no norm, no dropout; u_t = lambda u_{t-1} + (1 - lambda) W s_t with lambda = 0.5, threshold 1, reset by
subtraction; the paper's output is the mean of the last layer's currents: ``network.readout = "current"``. The gain of
the first weights depends on the coding. Beside each network stands a narrower one for a CPU.
"""

from __future__ import annotations

from spikefed.networks.zoo.info import NetworkInfo
from spikefed.neurons import LIFParameters, Triangle

NEURON = LIFParameters(kind="soft", decay=0.5, v_threshold=1.0, gain=0.5, surrogate=Triangle(0.3), detach_reset=True)


def _rvd(name: str, summary: str, layout: str, gain: float, gains: dict[str, float] | None = None) -> NetworkInfo:
    return NetworkInfo(
        name=name,
        summary=summary,
        source="Kim et al., ICASSP 2022",
        layout=lambda _: layout,
        neuron=NEURON,
        norm="none",
        coding="direct",
        bias="none",
        readout_norm=False,
        xavier_gain=gain,
        pixels="standard",
        gains=gains or {},
    )


VGG5_GAINS = {"poisson": 4.0, "bernoulli": 4.0, "latency": 4.0}
"""Of the codings that spike; 3 under direct coding."""

RVD = (
    _rvd(
        "mlp", "MLP of the study of rate and direct coding: 800 hidden neurons (635 k weights at 1x28x28)", "800FC", 2
    ),
    _rvd(
        "vgg5-rvd",
        "VGG5 of the study of rate and direct coding, initial gain by coding (8.6 M weights at 3x32x32)",
        "64C3-AP2-128C3-128C3-AP2-1024FC",
        3,
        VGG5_GAINS,
    ),
    _rvd(
        "vgg5-rvd-half",
        "vgg5-rvd at half its width (2.2 M weights at 3x32x32)",
        "32C3-AP2-64C3-64C3-AP2-512FC",
        3,
        VGG5_GAINS,
    ),
    _rvd(
        "vgg5-rvd-small",
        "vgg5-rvd at a quarter of its width, for a CPU (0.2 M weights at 1x28x28)",
        "16C3-AP2-32C3-32C3-AP2-128FC",
        3,
        VGG5_GAINS,
    ),
    _rvd(
        "vgg9-rvd",
        "VGG9 of the study of rate and direct coding (5.9 M weights at 3x32x32)",
        "64C3-64C3-AP2-128C3-128C3-AP2-256C3-256C3-256C3-AP2-1024FC",
        5,
    ),
    _rvd(
        "vgg9-rvd-small",
        "vgg9-rvd at a quarter of its width, for a CPU (0.4 M weights at 3x32x32)",
        "16C3-16C3-AP2-32C3-32C3-AP2-64C3-64C3-64C3-AP2-256FC",
        5,
    ),
)
