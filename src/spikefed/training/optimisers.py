"""torch's Adam, AdamW and SGD with a step of one native call over all tensors.

State, settings and hooks are torch's own: checkpoints, masks and schedules work as with its classes. SGD gives the bits
of torch's, Adam differs from it by the last bit of a step (6e-8), as torch's own fused one does. What is gone is the
dispatch of up to a dozen small operations for every tensor.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from ctypes import c_double, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from spikefed.errors import ConfigError
from spikefed.neurons import dense_library

Closure = Callable[[], Tensor]


class _Settings(ctypes.Structure):
    """Mirror of ``struct OptimiserStep`` in native/optimiser.h."""

    _fields_ = [
        *((name, c_double) for name in ("lr", "beta1", "beta2", "eps", "weight_decay")),
        ("decoupled", c_int32),
    ]


@cache
def _prepared() -> ctypes.CDLL | None:
    lib = dense_library()
    for name in ("spikefed_adam", "spikefed_sgd") if lib is not None else ():
        function = getattr(lib, name)
        function.argtypes = [ctypes.POINTER(_Settings), c_void_p, c_int64]
        function.restype = None
    return lib


def optimiser(
    net: nn.Module, name: str, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """``adam``, ``adamw`` or ``sgd`` over all trainable parameters of ``net``.

    Args:
        net: whose parameters are stepped.
        name: ``adam``, ``adamw`` or ``sgd``.
        lr: step size, above 0.
        momentum: of ``sgd``.
        weight_decay: at least 0.

    Raises:
        ConfigError: another name.
    """
    if name not in ("adam", "adamw", "sgd"):
        raise ConfigError(f"optimiser '{name}' is not known; use adam, adamw or sgd")
    parameters = [p for p in net.parameters() if p.requires_grad]
    ours = bool(parameters) and _prepared() is not None and all(map(_plain, parameters))
    kinds = {"adam": Adam, "adamw": AdamW, "sgd": SGD} if ours else _TORCHS
    if name == "sgd":
        return kinds[name](parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    return kinds[name](parameters, lr=lr, weight_decay=weight_decay)


_TORCHS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def _plain(t: Tensor) -> bool:
    return t.device.type == "cpu" and t.dtype == torch.float32 and t.is_contiguous()


class _Stepping:
    """One step of every group; what a group needs is in ``_move``."""

    param_groups: list[dict[str, Any]]
    state: Any
    kind: str  # of the native call: ``adam`` or ``sgd``
    remembers: tuple[str, ...]  # names of a parameter's tensors in ``state``

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | None:
        """One step.

        Args:
            closure: computes the loss again, and its gradients; called once before the step.

        Returns:
            what the closure gave.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving:
                self._move(group, moving, [_dense(p.grad) for p in moving])
                increment_version(moving)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As torch's, whose profiler entry takes longer than dropping the gradients of a small network."""
        if not set_to_none:
            return torch.optim.Optimizer.zero_grad(cast("torch.optim.Optimizer", self), set_to_none=False)
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None
        return None

    def _move(self, group: dict[str, Any], moving: list[Tensor], grads: list[Tensor]) -> None:
        self.run(group, records_of(self.records(group, moving, grads)), len(moving))

    def run(self, group: dict[str, Any], records: ctypes.Array, count: int) -> None:
        """One step of ``count`` tensors of a group, whose records these are."""
        lib = _prepared()
        assert lib is not None
        (lib.spikefed_sgd if self.kind == "sgd" else lib.spikefed_adam)(self.settings(group), records, count)

    def settings(self, group: dict[str, Any]) -> _Settings:
        """Numbers of a group."""
        raise NotImplementedError

    def begun(self, group: dict[str, Any], p: Tensor) -> bool:
        """Whether what is remembered of a parameter from one step to the next is there."""
        return bool(self.state.get(p))

    def records(self, group: dict[str, Any], moving: list[Tensor], grads: list[Tensor]) -> list[int]:
        """``struct Moved`` of native/optimiser.h, one after the other; what the optimiser remembers is there then."""
        raise NotImplementedError


def records_of(numbers: list[int]) -> ctypes.Array:
    """Records as the native call reads them."""
    return (c_int64 * len(numbers))(*numbers)


def _dense(grad: Tensor) -> Tensor:
    return grad if _plain(grad) else grad.float().contiguous()


class _AdamSteps(_Stepping):
    """Kingma and Ba 2015; ``decoupled``: weight decay apart from the gradient (Loshchilov and Hutter 2019)."""

    kind = "adam"
    remembers = ("step", "exp_avg", "exp_avg_sq")
    decoupled = False

    def settings(self, group: dict[str, Any]) -> _Settings:
        beta1, beta2 = group["betas"]
        return _Settings(group["lr"], beta1, beta2, group["eps"], group["weight_decay"], self.decoupled)

    def records(self, group: dict[str, Any], moving: list[Tensor], grads: list[Tensor]) -> list[int]:
        numbers: list[int] = []
        for p, grad in zip(moving, grads, strict=True):
            state = self.state[p]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(p)
                state["exp_avg_sq"] = torch.zeros_like(p)
            numbers += (
                p.data_ptr(), grad.data_ptr(), state["exp_avg"].data_ptr(), state["exp_avg_sq"].data_ptr(),
                state["step"].data_ptr(), p.numel(), 0,
            )  # fmt: skip
        return numbers


class Adam(_AdamSteps, torch.optim.Adam):
    """`torch.optim.Adam` without its variants (amsgrad, maximize) on float32 tensors of a CPU."""


class AdamW(_AdamSteps, torch.optim.AdamW):
    """`torch.optim.AdamW`, as `Adam` here."""

    decoupled = True


class SGD(_Stepping, torch.optim.SGD):
    """`torch.optim.SGD` without its variants (dampening, nesterov, maximize) on float32 tensors of a CPU."""

    kind = "sgd"
    remembers = ("momentum_buffer",)

    def settings(self, group: dict[str, Any]) -> _Settings:
        return _Settings(group["lr"], group["momentum"], 0.0, 0.0, group["weight_decay"], False)

    def begun(self, group: dict[str, Any], p: Tensor) -> bool:
        return not group["momentum"] or super().begun(group, p)

    def records(self, group: dict[str, Any], moving: list[Tensor], grads: list[Tensor]) -> list[int]:
        momentum = group["momentum"]
        numbers: list[int] = []
        for p, grad in zip(moving, grads, strict=True):
            buffer = 0
            started = False
            if momentum:
                state = self.state[p]
                started = state.get("momentum_buffer") is not None
                if not started:
                    state["momentum_buffer"] = torch.empty_like(p)
                buffer = state["momentum_buffer"].data_ptr()
            numbers += p.data_ptr(), grad.data_ptr(), buffer, 0, 0, p.numel(), started
        return numbers


class PreparedSteps:
    """Steps of an optimiser of ours with gradients that stay where they are: what a step needs is looked up once.

    Args:
        optim: whose steps they are; hooks on it are called as ever.
        gradients: by parameter; parameters without one stay.
    """

    def __init__(self, optim: torch.optim.Optimizer, gradients: Mapping[Tensor, Tensor]) -> None:
        self._optim = optim
        self._gradients = gradients
        self._groups: list[tuple[dict[str, Any], list[Tensor], ctypes.Array]] = []
        self._pointers: list[int] = []
        self._state: list[Any] = []  # held, so that its memory is nobody else's while records point to it

    def __call__(self) -> None:
        """One step; each parameter's ``grad`` is its gradient of these."""
        optim = self._optim
        if not isinstance(optim, _Stepping) or _hooked(optim):
            optim.step()
            return
        if not self._groups or self._moved(optim):
            self._look_up(optim)
            optim.step()
            return
        for group, moving, records in self._groups:
            optim.run(group, records, len(moving))
            increment_version(moving)

    def _moved(self, optim: _Stepping) -> bool:
        """Whether weights have other memory, or the optimiser was given another state or other groups."""
        if [p.data_ptr() for p in self._gradients] != self._pointers:
            return True
        if len(optim.param_groups) != len(self._groups):
            return True
        if any(g is not known for g, (known, _, _) in zip(optim.param_groups, self._groups, strict=True)):
            return True
        return any(a is not b for a, b in zip(_remembered(optim, self._gradients), self._state, strict=True))

    def _look_up(self, optim: _Stepping) -> None:
        self._pointers = [p.data_ptr() for p in self._gradients]
        self._groups = []
        parts = [(group, [p for p in group["params"] if p in self._gradients]) for group in optim.param_groups]
        if not all(optim.begun(group, p) for group, moving in parts for p in moving):
            return  # its first step makes what it remembers
        for group, moving in parts:
            numbers = optim.records(group, moving, [self._gradients[p] for p in moving])
            self._groups.append((group, moving, records_of(numbers)))
        self._state = _remembered(optim, self._gradients)


def _remembered(optim: _Stepping, parameters: Mapping[Tensor, Tensor]) -> list[Any]:
    """The tensors that records of these parameters point to; None of those that are not there."""
    states = [optim.state.get(p, {}) for p in parameters]
    return [state.get(name) for state in states for name in optim.remembers]


def _hooked(optim: Any) -> bool:
    """Whether a step is more than the optimiser's own: hooks, or a function put in its place (schedules do that)."""
    own = optim._optimizer_step_pre_hooks or optim._optimizer_step_post_hooks or "step" in vars(optim)
    return bool(own or _global_optimizer_pre_hooks or _global_optimizer_post_hooks)
