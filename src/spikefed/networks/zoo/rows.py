"""Networks that are a row of layers: those of FSD and V-SNN, the VGGs, and the small ones."""

from __future__ import annotations

from spikefed.errors import ConfigError
from spikefed.networks.init import initialise_relu
from spikefed.networks.zoo.info import NetworkInfo, own_info
from spikefed.neurons import ATan, LIFParameters, Rectangle, Triangle

# Best of eight tried on 2,500 Fashion-MNIST images (3 seeds, 6 epochs: 84.9 %; with the rectangle 84.0 %).
SMALL_NEURON = LIFParameters(kind="hard", decay=0.5, v_threshold=1.0, surrogate=Triangle(gamma=1.0))
SERIES_NEURON = LIFParameters(kind="soft", decay=0.9, v_threshold=1.0, surrogate=Triangle(gamma=1.0))
TICKET_NEURON = LIFParameters(
    kind="hard", decay=0.25, v_threshold=1.0, gain=0.75, strict=False, surrogate=ATan(2.0), detach_reset=True
)
"""SpikingJelly's LIF with tau = 4/3: u_t = u_{t-1} + (x_t - u_{t-1}) / tau, which the lottery-ticket papers use."""


def small_layout(input_shape: tuple[int, ...]) -> str:
    """Layout of ``small`` for an input size: under 300,000 weights with 10 classes, for images up to 96x96.

    ==================  =================================  ==============
    longer side         layout                             weights
    ==================  =================================  ==============
    a side of 1         128FC-64FC (series, rows)          10 k at 6x1x1
    below 16 (digits)   16C3-32C3-AP2-64FC                 38 k at 8x8
    16 to 29 (MNIST)    16C3-AP2-32C3-AP2-128FC            207 k at 28x28
    from 30 (CIFAR)     16C3-AP2-32C3-AP2, then 64C3-AP2   156 k at 32x32
                        until a side is at most 4, 128FC
    ==================  =================================  ==============
    """
    short, long = min(input_shape[1:]), max(input_shape[1:])
    if short == 1:
        return series_layout(input_shape)
    if long < 16 or short < 4:
        return "16C3-32C3-AP2-64FC"
    if long < 30:
        return "16C3-AP2-32C3-AP2-128FC"
    pools = min((long // 5).bit_length(), short.bit_length() - 1)
    return "-".join(["16C3-AP2-32C3-AP2", *["64C3-AP2"] * (pools - 2), "128FC"])


def series_layout(input_shape: tuple[int, ...]) -> str:
    """Layout of ``small-1d``: two hidden linear layers on the numbers of a time step, whose neurons remember."""
    return "128FC-64FC"


def line_layout(input_shape: tuple[int, ...]) -> str:
    """Layout of ``conv-1d``: convolutions along the samples of a time step, a pool after each until at most 4 are left.

    ==================  =================================================  ==============
    samples a step      layout                                             weights
    ==================  =================================================  ==============
    2 to 9              32C1x3-AP1x2-128FC                                 10 k at 6x1x5
    10 to 19            32C1x5-AP1x2-64C1x3-AP1x2-128FC                    24 k at 6x1x10
    100                 the same, 64C1x3-AP1x2 three times more            70 k at 6x1x100
    ==================  =================================================  ==============

    Raises:
        ConfigError: see `check_line`.
    """
    length = check_line("conv-1d", input_shape)
    pools = max(1, (length // 5).bit_length())
    kernel = 5 if length >= 10 else 3
    return "-".join([f"32C1x{kernel}-AP1x2", *["64C1x3-AP1x2"] * (pools - 1), "128FC"])


def check_line(name: str, input_shape: tuple[int, ...]) -> int:
    """Samples of a time step, for a network that convolves along them.

    Raises:
        ConfigError: pictures, or a single sample a step.
    """
    _, height, length = input_shape
    if height > 1:
        raise ConfigError(
            f"{name} convolves along the samples of series, and these are pictures of {height}x{length}; use small, or "
            "a layout such as 32C3-AP2-128FC"
        )
    if length < 2:
        raise ConfigError(
            f"{name} convolves along the samples of a time step, and here a step has one; set data.resample = 'window' "
            "and fewer network.steps than samples, give arrays [N, T, C, L], or use small-1d"
        )
    return length


def small_vgg_layout(input_shape: tuple[int, ...]) -> str:
    """Layout of ``vgg-small``: pairs of convolutions, a pool after each pair until a side is at most 4.

    ==================  ===================================================  ==============
    side                layout                                               weights
    ==================  ===================================================  ==============
    8 (digits)          16C3-16C3-AP2-32C3-32C3-64C3-64C3-64FC               138 k
    28 (MNIST)          16C3-16C3-AP2-32C3-32C3-AP2-64C3-64C3-AP2-128FC      147 k
    32 (CIFAR)          the same                                             204 k
    ==================  ===================================================  ==============
    """
    side = min(input_shape[1:])
    long = max(input_shape[1:])
    pairs = []
    for channels in (16, 32, 64, 64, 64):
        if channels == 64 and len(pairs) > 2 and long <= 4:
            break
        pool = long > 4 and side > 1
        pairs.append(f"{channels}C3-{channels}C3" + ("-AP2" if pool else ""))
        side, long = (side // 2, long // 2) if pool else (side, long)
    return "-".join([*pairs, "64FC" if max(input_shape[1:]) < 16 else "128FC"])


def pools_that_fit(layout: str, input_shape: tuple[int, ...]) -> str:
    """The layout without those pools that would meet a map of a single pixel."""
    side = min(input_shape[1:])
    tokens = []
    for token in layout.split("-"):
        if token == "AP2":
            if side < 2:
                continue
            side //= 2
        tokens.append(token)
    return "-".join(tokens)


VGG11 = "64C3-AP2-128C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-512C3-512C3-GAP-4096FC"
VGG16 = "64C3-64C3-AP2-128C3-128C3-AP2-256C3-256C3-256C3-AP2-512C3-512C3-512C3-AP2-512C3-512C3-512C3-AP2"

ROWS = (
    NetworkInfo(
        name="cifarnet",
        summary="CIFARNet of DTSNN: 5 convolutions, 3 linear layers, biases, no norm (45.0 M weights at 3x32x32)",
        source="Wu et al., AAAI 2019; sizes as in Liu et al. 2022 (FSD)",
        layout=lambda _: "128C3-256C3-AP2-512C3-AP2-1024C3-512C3-1024FC-512FC",
        neuron=LIFParameters(kind="hard", decay=0.1, v_threshold=0.25, surrogate=Rectangle(1.0)),
        norm="none",
        coding="bernoulli",
        bias="all",
        readout_norm=False,
        xavier_gain=None,
        pixels="unit",
    ),
    NetworkInfo(
        name="vgg9-bntt",
        summary="V-SNN: VGG9 without biases, batch norm through time, soft reset (5.9 M weights at 3x32x32)",
        source="Venkatesha et al., IEEE TSP 2021; Kim and Panda 2021",
        layout=lambda _: "64C3-64C3-AP2-128C3-128C3-AP2-256C3-256C3-256C3-AP2-1024FC",
        neuron=LIFParameters(kind="soft", decay=0.95, v_threshold=1.0, surrogate=Triangle(0.3), detach_reset=True),
        norm="bntt",
        coding="poisson",
        bias="none",
        readout_norm=False,
        xavier_gain=2.0,
        pixels="signed",
    ),
    NetworkInfo(
        name="vgg9-lab-ann",
        summary="the larger ANN that V-SNN compares with: 4 pools, 2 hidden linear layers, dropout (22.7 M weights)",
        source="Venkatesha et al., IEEE TSP 2021, public code",
        layout=lambda _: "64C3-AP2-64C3-128C3-AP2-128C3-256C3-AP2-256C3-AP2-256C3-4096FC-4096FC",
        neuron=LIFParameters(decay=0.95, v_threshold=1.0),
        norm="bn",
        coding="direct",
        bias="none",
        readout_norm=False,
        xavier_gain=None,
        pixels="signed",
        ann=True,
        dropout=(0.3, 0.5),
        initial=initialise_relu,
    ),
    own_info(
        name="small",
        summary="convolutional network under 300,000 weights, sized to the input, for two CPU cores",
        neuron=SMALL_NEURON,
        layout=small_layout,
    ),
    own_info(
        name="small-1d",
        summary="linear layers for series and rows of numbers: each time step sees its values, the neurons the past",
        neuron=SERIES_NEURON,
        layout=series_layout,
    ),
    own_info(
        name="conv-1d",
        summary="1-d convolutions along the samples of a time step, pools along them, a hidden linear layer",
        neuron=SERIES_NEURON,
        layout=line_layout,
    ),
    NetworkInfo(
        name="vgg5",
        summary="VGG5 of the study of rate and direct coding: no bias, no norm (8.6 M weights at 3x32x32)",
        source="Kim et al., ICASSP 2022",
        layout=lambda _: "64C3-AP2-128C3-128C3-AP2-1024FC",
        neuron=LIFParameters(
            kind="soft", decay=0.5, v_threshold=1.0, gain=0.5, surrogate=Triangle(0.3), detach_reset=True
        ),
        norm="none",
        coding="direct",
        bias="none",
        readout_norm=False,
        xavier_gain=3.0,
        pixels="standard",
    ),
    NetworkInfo(
        name="vgg11",
        summary="VGG11 of batch norm through time, global pool (11.4 M weights at 3x32x32)",
        source="Kim and Panda 2021",
        layout=lambda shape: pools_that_fit(VGG11, shape),
        neuron=LIFParameters(kind="soft", decay=0.99, v_threshold=1.0, surrogate=Triangle(0.3), detach_reset=True),
        norm="bntt",
        coding="poisson",
        bias="none",
        readout_norm=False,
        xavier_gain=2.0,
        pixels="signed",
    ),
    NetworkInfo(
        name="vgg16",
        summary="VGG16 of the lottery tickets: biases, batch norm, max pools, one linear layer (14.7 M weights)",
        source="Kim et al., ECCV 2022; Simonyan and Zisserman 2015, configuration D",
        layout=lambda shape: pools_that_fit(VGG16, shape),
        neuron=TICKET_NEURON,
        norm="bn",
        coding="direct",
        bias="all",
        readout_norm=True,
        xavier_gain=None,
        pixels="standard",
        pooling="max",
    ),
    own_info(
        name="vgg-small",
        summary="pairs of convolutions as in a VGG, under 300,000 weights, sized to the input",
        neuron=SMALL_NEURON,
        layout=small_vgg_layout,
    ),
)
