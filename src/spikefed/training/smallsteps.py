"""Training steps of small networks: where a whole network is one chain of small layers, and nothing but a loss on its
outputs is asked for, a step is two native calls and the optimiser's, with the loss between them.

Weights, statistics, moments and losses are those of a step through autograd, bit for bit. What is gone are torch's
modules, graph and dispatch around the calls, which take as long as a step on digits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikefed.networks import SpikingNetwork
from spikefed.networks.layers import links_of, watched
from spikefed.neurons import ChainLayer, ChainSteps, chain_steps
from spikefed.neurons.encoding import encode_input
from spikefed.training.hooks import Loss
from spikefed.training.optimisers import PreparedSteps


class SmallSteps:
    """Steps of one training.

    Args:
        net: in training mode; one that `small_steps` takes.
        optim: steps it.
    """

    def __init__(self, net: SpikingNetwork, optim: torch.optim.Optimizer) -> None:
        self._net = net
        self._gradients: dict[Tensor, Tensor] = {p: torch.empty_like(p) for p in net.parameters() if p.requires_grad}
        self._optim = optim
        self._move = PreparedSteps(optim, self._gradients)
        self._chains: dict[tuple[torch.Size, int], ChainSteps | None] = {}

    def __call__(self, x: Tensor, wanted: Tensor, loss: Loss, generator: torch.Generator) -> Tensor | None:
        """One step; the loss, scalar, without a graph. None, and nothing has moved, where the batch is not small.

        Args:
            x: input of the network, ``[B, ...]``.
            wanted: targets of the batch.
            loss: ``(outputs [T, B, C], wanted) -> scalar``.
            generator: source of the input coding's randomness.

        Raises:
            ConfigError: as the network.
        """
        net = self._net
        key = x.shape, net.steps
        if key not in self._chains:
            self._chains[key] = self._chain(x, generator)
        chain = self._chains[key]
        if chain is None:
            return None
        y, _ = encode_input(net.encoder, x, net.steps, generator, net.has_time(x))
        outputs = chain.forward(y).unflatten(0, (net.steps, -1)).to(x.dtype)
        known: Callable[[Tensor, Tensor], tuple[Tensor, Tensor] | None] | None = getattr(loss, "with_gradient", None)
        found = None if known is None else known(outputs, wanted)
        if found is None:
            return self._differentiated(chain, outputs.detach().requires_grad_(), wanted, loss)
        value, upstream = found
        chain.backward(upstream.flatten(0, 1))
        for p, gradient in self._gradients.items():
            if p.grad is not gradient:  # a step through autograd, or somebody who drops gradients, was in between
                p.grad = gradient
        self._move()
        return value

    def _differentiated(self, chain: ChainSteps, outputs: Tensor, wanted: Tensor, loss: Loss) -> Tensor:
        """The rest of a step whose loss torch differentiates."""
        for p in self._gradients:
            p.grad = None
        value = loss(outputs, wanted)
        value.backward()
        if outputs.grad is None:  # the loss looks at parameters alone
            self._optim.step()
            return value.detach()
        chain.backward(outputs.grad.flatten(0, 1))
        self._hand_over()
        return value.detach()

    def _chain(self, x: Tensor, generator: torch.Generator) -> ChainSteps | None:
        """The chain of such inputs; the generator stays as it was."""
        net = self._net
        net.check_input(x)
        before = generator.get_state()
        y, repeat = encode_input(net.encoder, x, net.steps, generator, net.has_time(x))
        generator.set_state(before)
        links = links_of(net.layers, net.steps, repeat)
        if links is None:
            return None
        if net.precision == "float32":
            return chain_steps(y, links, self._gradients)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return chain_steps(y, links, self._gradients)

    def _hand_over(self) -> None:
        """Give the gradients to the parameters, and step."""
        apart = False
        for p, gradient in self._gradients.items():
            if p.grad is None:
                p.grad = gradient
            else:  # the loss looks at parameters itself
                p.grad += gradient
                apart = True
        if apart:
            self._optim.step()
        else:
            self._move()


def small_steps(net: nn.Module, optim: torch.optim.Optimizer) -> SmallSteps | None:
    """Steps of this network; None where a step must go through autograd, whatever the batch.

    Args:
        net: in training mode.
        optim: steps it.
    """
    if type(net) is not SpikingNetwork or "forward" in vars(net) or watched(net) or not torch.is_grad_enabled():
        return None
    learnt = {p for p in net.parameters() if p.requires_grad}
    if not learnt or learnt != {p for group in optim.param_groups for p in group["params"]}:
        return None
    links = links_of(net.layers, net.steps, False)
    if links is None or not all(map(_plain, links)):
        return None
    of_links = [t for link in links for t in _tensors(link)]
    if len(of_links) != len(set(of_links)) or not learnt.issubset(of_links):
        return None  # a gradient of several layers is their sum, and one of none is not there
    return SmallSteps(net, optim)


def _tensors(link: ChainLayer) -> list[Tensor]:
    """What a layer may learn."""
    return [t for t in (link.weight, link.bias, link.state.weight, link.state.bias) if t is not None]


def _plain(link: ChainLayer) -> bool:
    """Whether what a layer learns are parameters, and nobody is told of their gradients."""
    return all(isinstance(t, nn.Parameter) and not t._backward_hooks and not _told(t) for t in _tensors(link))


def _told(p: nn.Parameter) -> bool:
    return bool(getattr(p, "_post_accumulate_grad_hooks", None))
