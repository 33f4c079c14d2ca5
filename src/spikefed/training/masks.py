"""Masks held exactly: an entry that a mask takes away is 0 after every step of every optimiser, its moments included.

Multiplying weights by a mask now and then is not enough: momentum and weight decay move a weight whose gradient is 0,
and a product of 0 with an infinite gradient is not a number. Here gradients are masked before a step, parameters and
the optimiser's own tensors after it, by a bitwise "and" that leaves +0 whatever was there.

A mask is a bool tensor a parameter, True where the entry stays. It does not choose what to take away, and makes no
network smaller in memory: files and messages do (`spikefed.networks.write_tensors`, `spikefed.wire`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spikefed.errors import ConfigError

Optim = TypeVar("Optim", bound=torch.optim.Optimizer)

_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_holding: WeakKeyDictionary[torch.optim.Optimizer, list[RemovableHandle]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Mask:
    """Which entries of a network's tensors stay.

    >>> weights = {"w": torch.tensor([1.0, -2.0, 0.0]), "b": torch.tensor([0.5])}
    >>> mask = Mask({"w": torch.tensor([True, False, True])})
    >>> mask.applied(weights)["w"].tolist(), density(mask)
    ([1.0, 0.0, 0.0], 0.6666666666666666)

    Attributes:
        kept: bool tensor by tensor name, True where the entry stays; a tensor without one stays whole.

    Raises:
        ConfigError: an entry of ``kept`` is no bool tensor.
    """

    kept: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, kept in self.kept.items():
            if not isinstance(kept, Tensor) or kept.dtype != torch.bool:
                found = kept.dtype if isinstance(kept, Tensor) else type(kept).__name__
                raise ConfigError(f"the mask of '{name}' is {found}; give a bool tensor, True where an entry stays")

    @classmethod
    def of_nonzero(cls, tensors: Mapping[str, Tensor]) -> Mask:
        """The mask of what is not 0 in these tensors. Each of its tensor's shape."""
        return cls({name: tensor.detach() != 0 for name, tensor in tensors.items()})

    def __and__(self, other: Mask) -> Mask:
        """What stays under both."""
        both = {name: kept & other.kept[name] if name in other.kept else kept for name, kept in self.kept.items()}
        return Mask({**other.kept, **both})

    def applied(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors, those under the mask as copies that are +0 where it takes an entry away.

        Raises:
            ConfigError: a mask of another shape, or of no tensor.
        """
        _check(self.kept, tensors)
        masked = dict(tensors)
        for name, kept in self.kept.items():
            masked[name] = tensors[name].detach().clone()
            _clear(masked[name], _words(kept, masked[name]))
        return masked

    def on(self, net: nn.Module) -> dict[nn.Parameter, Tensor]:
        """The mask by parameter of ``net``, on its device: what `held` takes.

        Raises:
            ConfigError: a mask of another shape, or of no parameter of this network.
        """
        parameters = dict(net.named_parameters(remove_duplicate=False))
        _check(self.kept, parameters)
        return {parameters[name]: kept.to(parameters[name].device) for name, kept in self.kept.items()}


def density(mask: Mask) -> float:
    """Share of the entries under the mask that stay, in [0, 1]; 1 for a mask of nothing."""
    total = sum(kept.numel() for kept in mask.kept.values())
    return sum(int(kept.sum()) for kept in mask.kept.values()) / total if total else 1.0


def held(optimiser: Optim, kept: Mapping[nn.Parameter, Tensor]) -> Optim:
    """Hold a mask from now on: every step of this optimiser leaves masked entries and their moments exactly 0.

    What the mask takes away is set to 0 at once, in the parameters and in what the optimiser remembers. A second call
    puts another mask in the place of the first; `released` takes it off.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    >>> mask = Mask({"weight": torch.tensor([[True, False]])})
    >>> optimiser = held(optimiser, mask.on(net))
    >>> net(torch.ones(1, 2)).sum().backward()
    >>> optimiser.step()
    >>> (net.weight[0] != 0).tolist()
    [True, False]

    Args:
        optimiser: any of torch's kind; masked are its tensors of a parameter's own shape (moments, averages).
        kept: bool mask by parameter, from `Mask.on`; parameters without one are left alone.

    Returns:
        the same optimiser.
    """
    released(optimiser)
    words = {parameter: _words(mask, parameter) for parameter, mask in kept.items()}

    def before(*_: Any) -> None:
        for parameter, word in words.items():
            if parameter.grad is not None and not parameter.grad.is_sparse:
                _clear(parameter.grad, word)

    def after(*_: Any) -> None:
        for parameter, word in words.items():
            _clear(parameter.detach(), word)
            for key, value in optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.shape == parameter.shape and key != "step":
                    _clear(value, word if value.element_size() == word.element_size() else _words(word != 0, value))

    after()
    _holding[optimiser] = [optimiser.register_step_pre_hook(before), optimiser.register_step_post_hook(after)]
    return optimiser


def released(optimiser: Optim) -> Optim:
    """Take off what `held` put on, if anything; returns the same optimiser."""
    for hook in _holding.pop(optimiser, []):
        hook.remove()
    return optimiser


def _words(kept: Tensor, like: Tensor) -> Tensor:
    """All bits set where an entry stays, none where not, in integers as wide as the numbers of ``like``."""
    return kept.to(like.device, _WORDS[like.element_size()]).neg_()


@torch.no_grad()
def _clear(tensor: Tensor, words: Tensor) -> None:
    """+0 where the word is 0, in place: NaN, infinity and -0 as well."""
    tensor.view(words.dtype).bitwise_and_(words)


def _check(kept: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, mask in kept.items():
        if name not in tensors:
            raise ConfigError(f"there is a mask for '{name}', which is no tensor here; give masks of these alone")
        if mask.shape != tensors[name].shape:
            raise ConfigError(
                f"the mask of '{name}' is {list(mask.shape)}, the tensor {list(tensors[name].shape)}; give one of its "
                "own shape"
            )
