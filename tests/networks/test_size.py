"""Networks that no machine holds are refused before a tensor is made, with what they would need."""

from __future__ import annotations

import pytest

from spikefed.errors import ConfigError
from spikefed.networks import ann_twin, build, size, state_bytes

CELL = "cell:0303-0030-2002-0200"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (f"{CELL}:width=1000000", {}),
        (f"{CELL}:hidden=1000000000000", {}),
        (f"{CELL}:vote=100000000", {}),
        ("99999999999FC", {}),
        ("32C100001-10FC", {}),
        ("small", {"classes": 10**12}),
        ("small", {"input_shape": (10**12, 8, 8)}),
        ("small", {"norm": "bntt", "steps": 10**12}),
        ("resnet19", {"classes": 10**12}),
    ],
)
def test_what_no_machine_holds_is_one_sentence(name: str, changes: dict) -> None:
    given = {"input_shape": (1, 28, 28), "classes": 10, "steps": 4} | changes
    with pytest.raises(ConfigError, match=r"would have [\d,]+ weights, .* take [\d,.]+ [TPE]B of memory, and this"):
        build(name, **given)
    if "norm" not in changes:
        given.pop("steps")
        with pytest.raises(ConfigError, match="of memory, and this machine has"):
            ann_twin(name, **given)


@pytest.mark.parametrize(("name", "norm"), [("small", "none"), ("small", "bntt"), (f"{CELL}:width=4,hidden=8", "bn")])
def test_what_is_counted_is_what_is_made(name: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"input_shape": (1, 8, 8), "classes": 10, "steps": 4, "norm": norm}
    made = state_bytes(build(name, **given))
    monkeypatch.setattr(size, "machine_bytes", lambda: 2 * made * 9 // 10)
    with pytest.raises(ConfigError, match="make it narrower"):
        build(name, **given)
    monkeypatch.setattr(size, "machine_bytes", lambda: 2 * made * 12 // 10)
    build(name, **given)


def test_a_system_that_does_not_say_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "machine_bytes", lambda: None)
    size.check_memory("any", [], "none", 4)


@pytest.mark.parametrize("layout", ["9" * 5000 + "FC", "0C3-10FC", "8C0-10FC", "0FC"])
def test_widths_that_are_none(layout: str) -> None:
    with pytest.raises(ConfigError):
        build(layout, input_shape=(1, 8, 8), classes=10, steps=4)
