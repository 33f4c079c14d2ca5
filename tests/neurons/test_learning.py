"""Learning parity: bf16 and event lists learn as the float32 reference does.

Spikes at the threshold differ, what is learned must not.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from spikefed import native
from spikefed.neurons import LIFParameters, fused, norm_lif, paths, processor, spike_conv2d, spike_linear, use_kernels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(fused.library() is None, reason=native.why_not() or "no native library"),
]

STEPS, SEEDS, ROUNDS, BATCH = 4, 3, 120, 48
NEURON = LIFParameters(decay=0.5, v_threshold=1.0, surrogate="atan")  # type: ignore[arg-type]


def train(mode: str, bf16: bool, seed: int) -> tuple[float, float]:
    """Mean loss of the last 50 steps and test accuracy of a small network on 8x8 digits."""
    digits = load_digits()
    x = torch.from_numpy(digits.images).float().div(16).unsqueeze(1)
    y = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(99))
    train_rows, test_rows = order[:1400], order[1400:]
    generator = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5).requires_grad_()

    weights = [weight(32, 1, 3, 3), weight(32, 32, 3, 3), weight(64, 512), weight(10, 64)]
    scales = [torch.ones(n, requires_grad=True) for n in (32, 32, 64)]
    shifts = [torch.zeros(n, requires_grad=True) for n in (32, 32, 64)]
    running = [(torch.zeros(n), torch.ones(n)) for n in (32, 32, 64)]
    optimizer = torch.optim.Adam([*weights, *scales, *shifts], lr=1e-3)

    def forward(images: torch.Tensor, training: bool) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            h = images
            for i in range(3):
                h = spike_conv2d(h, weights[i], padding=1) if i < 2 else spike_linear(h, weights[i])
                h = norm_lif(
                    h,
                    NEURON,
                    steps=STEPS,
                    norm="bn",
                    weight=scales[i],
                    bias=shifts[i],
                    running_mean=running[i][0],
                    running_var=running[i][1],
                    training=training,
                    pool=i == 1,
                    repeat=i == 0,
                )
            return spike_linear(h, weights[3]).unflatten(0, (STEPS, -1)).float().mean(0)

    losses = []
    with use_kernels(mode):  # type: ignore[arg-type]
        for _ in range(ROUNDS):
            rows = train_rows[torch.randint(0, len(train_rows), (BATCH,), generator=generator)]
            loss = F.cross_entropy(forward(x[rows], True), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            accuracy = (forward(x[test_rows], False).argmax(1) == y[test_rows]).float().mean().item()
    return float(np.mean(losses[-50:])), accuracy


def test_bf16_and_event_lists_learn_like_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    reference = np.array([train("reference", False, seed) for seed in range(SEEDS)])
    for bf16 in (False, True):
        monkeypatch.setattr(paths, "LEAST_WORK", 0)
        for limit in ("FLOAT32_LIMIT", "BF16_LIMIT", "BF16_WEIGHT_LIMIT", "AMX_WEIGHT_LIMIT"):
            monkeypatch.setattr(paths, limit, 1.1)  # event lists wherever they are possible
        monkeypatch.setattr(processor, "has_amx", lambda: False)
        with paths.record_paths() as choices:
            fast = np.array([train("auto", bf16, seed) for seed in range(SEEDS)])
        assert any(c.path == "events" for c in choices)
        loss, accuracy = (fast - reference).mean(0)
        # the paired spread over seeds says what chance alone does; 1 % of the loss and 397 test images bound it from
        # below
        spread = (fast - reference).std(0, ddof=1) / SEEDS**0.5
        assert abs(loss) <= max(0.01 * reference[:, 0].mean(), 2 * spread[0], 0.01), (fast, reference)
        assert abs(accuracy) <= max(2 * spread[1], 2 * (0.03 * 0.97 / 397) ** 0.5), (fast, reference)
        assert accuracy + reference[:, 1].mean() > 0.9
