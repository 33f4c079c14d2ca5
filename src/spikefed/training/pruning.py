"""What a mask takes away: scores of single weights, one global threshold, and how far two masks are apart.

Sources: global magnitude and late rewinding, Kim et al. 2022 (lottery tickets of SNNs, section 3); SNIP, Lee et al.
2019; distance of masks, You et al. 2020 (Early-Bird). Normalisations and biases have no scores and are never pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.training.loops import Preprocess, outputs
from spikefed.training.masks import Mask


def magnitudes(weights: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """|w| of the tensors named, in the order of ``weights``. Shapes stay."""
    wanted = frozenset(names)
    return {name: tensor.detach().abs() for name, tensor in weights.items() if name in wanted}


def saliencies(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SNIP: |w g| of every tensor that has a gradient. Shapes stay."""
    return {name: (weights[name].detach() * gradient).abs() for name, gradient in gradients.items()}


def random_scores(weights: Mapping[str, Tensor], names: Iterable[str], generator: torch.Generator) -> dict[str, Tensor]:
    """Uniform scores in [0, 1): masks of them nest, whatever their sparsities. Shapes are those of the weights."""
    wanted = frozenset(names)
    return {n: torch.rand(t.shape, generator=generator) for n, t in weights.items() if n in wanted}


def input_activity(
    net: nn.Module, names: Iterable[str], images: Tensor, preprocess: Preprocess, generator: torch.Generator
) -> dict[str, Tensor]:
    """Mean size of what enters every synapse: of spikes their rate, as ``[1, Cin, 1, ...]`` beside the weight.

    Args:
        net: measured in evaluation.
        names: of weights ``[Cout, Cin, ...]`` of its modules.
        images: uint8 ``[N, C, H, W]``.
        preprocess: pixels to input.
        generator: of the input coding.

    Raises:
        ConfigError: a weight whose module does not see the input that it multiplies.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    hooks = []

    def watch(name: str, weight: Tensor) -> Callable[..., None]:
        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach()
            x = x.flatten(1) if weight.dim() == 2 and x.dim() > 2 else x
            if x.shape[1] != weight.shape[1]:
                raise ConfigError(f"what enters '{name}' is {list(x.shape)}, not what it multiplies; use 'magnitude'")
            axes = [axis for axis in range(x.dim()) if axis != 1]
            sums[name] = sums.get(name, torch.zeros(())) + x.abs().double().sum(axes).cpu()
            counts[name] = counts.get(name, 0) + x.numel() // x.shape[1]

        return before

    parameters = dict(net.named_parameters())
    for name in names:
        module = net.get_submodule(name.rpartition(".")[0])
        hooks.append(module.register_forward_pre_hook(watch(name, parameters[name])))
    try:
        outputs(net, images, preprocess=preprocess, generator=generator)
    finally:
        for hook in hooks:
            hook.remove()
    return {n: (s / counts[n]).float().reshape(1, -1, *[1] * (parameters[n].dim() - 2)) for n, s in sums.items()}


def mask_of_best(scores: Mapping[str, Tensor], sparsity: float, within: Mask | None = None) -> Mask:
    """The mask of the largest scores over all tensors together.

    Exactly ``round((1 - sparsity) * n)`` of the n entries stay; of equal scores those that come first.

    >>> mask = mask_of_best({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([2.0, 0.0])}, 0.5)
    >>> mask.kept["a"].tolist(), mask.kept["b"].tolist()
    ([True, False], [True, False])

    Args:
        scores: at least 0, by tensor name.
        sparsity: share of all entries that goes, in [0, 1].
        within: entries outside it go first.

    Raises:
        ConfigError: a sparsity outside [0, 1], or fewer entries left by ``within`` than are to stay.
    """
    if not 0 <= sparsity <= 1:
        raise ConfigError(f"a sparsity of {sparsity} is not in [0, 1]; 0.9 leaves a tenth of the weights")
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    if within is not None:
        allowed = torch.cat([within.kept[name].reshape(-1) for name in scores])
        flat = torch.where(allowed, flat, torch.full_like(flat, -1.0))
    stay = round((1 - sparsity) * flat.numel())
    if within is not None and stay > int(allowed.sum()):
        raise ConfigError(f"a sparsity of {sparsity} keeps {stay} weights, but only {int(allowed.sum())} are left")
    kept = _largest(flat, stay)
    parts = kept.split([score.numel() for score in scores.values()])
    return Mask({name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)})


def _largest(flat: Tensor, count: int) -> Tensor:
    """Bool: the ``count`` largest, of equals the first."""
    if not count:
        return torch.zeros(flat.shape, dtype=torch.bool)
    threshold = flat.kthvalue(flat.numel() - count + 1).values
    kept = flat > threshold
    ties = (flat == threshold).nonzero().reshape(-1)
    kept[ties[: count - int(kept.sum())]] = True
    return kept


def mask_distance(one: Mask, other: Mask) -> float:
    """Normalised Hamming distance of two masks of the same tensors, in [0, 1]."""
    total = sum(kept.numel() for kept in one.kept.values())
    return sum(int((kept != other.kept[name]).sum()) for name, kept in one.kept.items()) / max(total, 1)


def schedule(prune: float, levels: int) -> list[float]:
    """Sparsities after 1 to ``levels`` prunings of a share ``prune`` of what is left: 1 - (1 - p)^k.

    >>> tuple(round(s, 4) for s in schedule(0.25, 3))
    (0.25, 0.4375, 0.5781)
    """
    return [1 - (1 - prune) ** level for level in range(1, levels + 1)]
