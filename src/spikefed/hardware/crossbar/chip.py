"""A network on a chip: its weights in crossbars, everything digital as it was, fused kernels included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.hardware.crossbar.ports import ports
from spikefed.hardware.crossbar.product import AnalogProduct
from spikefed.hardware.crossbar.profile import ChipProfile
from spikefed.networks.monitor import device_of


class OnChip:
    """A network whose weights are written to one chip.

    >>> from spikefed.hardware.crossbar import load_profile
    >>> from spikefed.networks import build
    >>> net = build("small", input_shape=(1, 8, 8), classes=10, steps=2)
    >>> chip = OnChip(net, load_profile("rram"), seed=3)
    >>> with chip.running():
    ...     spikes = net(torch.rand(4, 1, 8, 8))

    Outside `running` the network computes exactly, with its own weights, which a chip never changes.

    Args:
        net: its layers are looked at now; another network needs another chip.
        profile: of the chip.
        seed: which chip of that kind: fixes every cell's deviations.
        rewrite: as in `AnalogProduct`, for a network that learns on the chip.

    Attributes:
        products: what each layer's crossbars compute, by the layer's name.

    Raises:
        ConfigError: the network has no layer that a crossbar can hold.
    """

    def __init__(self, net: nn.Module, profile: ChipProfile, seed: int = 0, rewrite: int | None = None) -> None:
        if device_of(net).type != "cpu":
            raise ConfigError("chips are simulated on the processor; set run.device = 'cpu'")
        self.net = net
        self.profile = profile
        self.seed = seed
        held = [port for port in ports(net) if port.convolution or profile.weights.layers == "all"]
        if not held:
            what = "convolution or linear layer" if profile.weights.layers == "all" else "convolution"
            raise ConfigError(f"chip profile {profile.name} finds no {what} to put on a crossbar; use another network")
        self.products = {port.name: AnalogProduct(port, profile, seed, rewrite) for port in held}

    def program(self) -> None:
        """Write the network's weights as they are now."""
        for product in self.products.values():
            product.program()

    def age(self, seconds: float, compensate: bool = False) -> None:
        """Let the chip reach an age after programming; with ``compensate`` by global drift compensation."""
        if seconds < 0:
            raise ConfigError(f"a chip cannot be {seconds:g} seconds old; give 0 or more")
        for product in self.products.values():
            product.read(seconds, compensate)

    @contextmanager
    def running(self, generator: torch.Generator | None = None) -> Iterator[nn.Module]:
        """Inside, the network computes on the chip, forward and backward.

        Args:
            generator: draws fresh read noise; torch's global one when None.
        """
        with ExitStack() as stack:
            for product in self.products.values():
                product.generator = generator
                stack.enter_context(product.port.replaced(product))
            yield self.net

    def calibrate(self, inputs: Iterable[Tensor], run: Callable[[Tensor], object] | None = None) -> None:
        """Set the converters' ranges to the largest values of these network inputs; nothing to do without converters.

        Each is ``[B, C, H, W]``.

        Args:
            inputs: batches as the network takes them.
            run: shows the network a batch; default: calls it.
        """
        converters = self.profile.converters
        if converters.dac_bits is None and converters.adc_bits is None:
            return
        draws = torch.Generator().manual_seed(self.seed)
        was_training = self.net.training
        self.net.eval()
        self._record(True)
        try:
            with torch.no_grad(), self.running(draws):
                for x in inputs:
                    (run or self._shown)(x)
        finally:
            self._record(False)
            self.net.train(was_training)

    def pc2(self) -> dict[str, float]:
        """`spikefed.hardware.crossbar.pc2` of every layer on the chip."""
        return {name: product.pc2() for name, product in self.products.items()}

    def crossbars(self) -> dict[str, int]:
        """Number of crossbar tiles by layer, slices and signs counted."""
        return {name: product.crossbars for name, product in self.products.items()}

    def _shown(self, x: Tensor) -> object:
        return self.net(x, generator=torch.Generator().manual_seed(self.seed))

    def _record(self, on: bool) -> None:
        for product in self.products.values():
            product.recording = on
