"""The small network inside a pruned one, whichever of the two kinds it is: a row of layers, or a supernet."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from spikefed.networks import Row, Space, living_channels, narrowed, slimmed, state_tensors

SUPER = "supernet:"


def small_network(net: nn.Module, kept: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network without its dead channels or branches, and the masks of what else is pruned in it.

    Args:
        net: a row of layers (`spikefed.networks.narrowed`) or a supernet (`spikefed.networks.slimmed`).
        kept: bool masks of its tensors by name, of each one's shape, True where an entry is left.

    Raises:
        ConfigError: a network of neither kind, or with tensors that no smaller one has.
    """
    small: nn.Module
    if str(getattr(net, "name", "")).startswith(SUPER):
        space, tensors = Space.of(net), state_tensors(net)
        small = slimmed(net)
        stays = space.kept(tensors, space.choice({name: tensor != 0 for name, tensor in tensors.items()}))
    else:
        small = narrowed(net)
        stays = Row.of(net).mask(living_channels(net))
    masks = {}
    for name, tensor in state_tensors(small).items():
        if name in kept:
            mask = kept[name].cpu()
            left = mask[stays[name]].reshape(tensor.shape) if name in stays else mask
            masks |= {} if bool(left.all()) else {name: left}
    return small, masks
