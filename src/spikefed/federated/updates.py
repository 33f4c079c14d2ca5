"""What the federated-SNN study does to clients' updates and reads off them: noise, and how far clients drift apart.

Source: Venkatesha et al., "Federated Learning with Spiking Neural Networks", IEEE TSP 69 (2021), and its public code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from spikefed.networks.roles import BN_STATS, WEIGHT, Role


def add_update_noise(
    weights: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    sigma: float,
    roles: Mapping[str, Role],
    generator: torch.Generator,
    *,
    statistics: bool = True,
) -> dict[str, Tensor]:
    """Each tensor w plus N(0, 1) * sigma * mean|w - w_start| per element: noise in proportion to the tensor's update.

    It is a test of robustness, not differential privacy: nothing is clipped and the scale depends on the data.
    Shapes stay.

    Args:
        weights: state tensors after local training.
        start: the same tensors as the client received them.
        sigma: at least 0; 0 changes nothing.
        roles: role by name.
        generator: source of the normal draws.
        statistics: also on running statistics of normalisations, as V-SNN's code does. A noisy running variance stops
            at 0, below which no network can be evaluated.

    Returns:
        new tensors; integer tensors as they were.
    """
    noisy: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        spared = not tensor.is_floating_point() or (roles.get(name) == BN_STATS and not statistics)
        if sigma == 0 or spared:
            noisy[name] = tensor
            continue
        scale = sigma * (tensor - start[name]).abs().mean()
        drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype, device=generator.device)
        noisy[name] = tensor + scale * drawn.to(tensor.device)
        if name.endswith("running_var"):
            noisy[name] = noisy[name].clamp_min(0.0)
    return noisy


def model_deviation(
    tensors: Mapping[int, Mapping[str, Tensor]], average: Mapping[str, Tensor], roles: Mapping[str, Role]
) -> dict[int, float]:
    """Sum over weight tensors of ||w_i - w_avg|| / ||w_avg|| for every client i: how far it is from the average model.

    V-SNN's code trains all clients in every round to say it of all of them; here it is said of the participants, at no
    cost. Layers whose average is exactly zero are left out. Clients' tensors have the shapes of the average's.
    """
    found: dict[int, float] = {}
    norms = {
        name: float(tensor.double().norm())
        for name, tensor in average.items()
        if roles.get(name) == WEIGHT and tensor.is_floating_point()
    }
    for client, own in tensors.items():
        found[client] = sum(
            float((own[name].double() - average[name].double()).norm()) / norm
            for name, norm in norms.items()
            if norm and name in own
        )
    return found


def drift_ratio(changes: Mapping[int, Mapping[str, Tensor]], weights: Mapping[int, float]) -> float:
    """Mean over clients of ||Delta_c - mean Delta|| / ||mean Delta||: how far apart clients pull; 0 where none moved.

    A tensor that a client did not send has not moved there. Shapes are any, the same for a name.

    Args:
        changes: of each client by tensor name.
        weights: of each client in the mean, summing to 1.
    """
    names = sorted({name for own in changes.values() for name in own})
    apart = dict.fromkeys(changes, 0.0)
    square = 0.0
    for name in names:
        sent = {c: own[name].double() for c, own in changes.items() if name in own}
        zero = torch.zeros_like(next(iter(sent.values())))
        mean = torch.stack([weights[c] * sent.get(c, zero) for c in changes]).sum(dim=0)
        square += float(mean.square().sum())
        for client in changes:
            apart[client] += float((sent.get(client, zero) - mean).square().sum())
    if square == 0.0:
        return 0.0
    return sum(value**0.5 for value in apart.values()) / len(apart) / square**0.5
