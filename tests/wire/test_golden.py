"""The format must not change unnoticed: stored packets are what is written today, and read back to what is stored."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spikefed.wire import PacketError, contextnative, decode
from spikefed.wire.measure import paper_bytes

from .helpers import payload
from .make_golden import PATH, content_of, golden, singles


@pytest.mark.parametrize("native", [True, False])
def test_golden_packets(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(contextnative, "available", lambda: False)
    stored = json.loads(PATH.read_text(encoding="utf-8"))
    made = golden()
    assert stored["near"] == made["near"]
    assert stored["packets"].keys() == made["packets"].keys()
    for name, entry in stored["packets"].items():
        assert {**made["packets"][name], "decoded": None} == {**entry, "decoded": None}, name
    assert stored["streams"] == made["streams"]


@pytest.mark.parametrize(("name", "message", "codec"), singles())
def test_golden_packets_decode(name: str, message, codec: str) -> None:
    entry = json.loads(PATH.read_text(encoding="utf-8"))["packets"][name]
    back = decode(bytes.fromhex(entry["packet"]), message.plan())
    expected, found = entry.get("decoded", entry["content"]), content_of(back)
    if codec.startswith("cosine"):  # cosines may differ in a last bit between machines
        for tensor, values in expected.items():
            assert tensor == "which" or np.allclose(found[tensor], values, rtol=1e-6)
    else:
        assert found == expected
    if codec in ("bitpack", "context", "plain", "float32"):
        assert "decoded" not in entry or "which" in expected  # entries that did not travel come back as 0
    if name.endswith("-coded"):
        assert len(payload(bytes.fromhex(entry["packet"]))) < paper_bytes(message)
    assert back.accuracy == message.accuracy and back.client == 2  # type: ignore[attr-defined]


def test_referenced_golden_packets_need_their_reference() -> None:
    from .helpers import up_plan

    last = json.loads(PATH.read_text(encoding="utf-8"))["streams"]["plain"][-1]
    with pytest.raises(PacketError) as caught:
        decode(bytes.fromhex(last["packet"]), up_plan((24, 5, 8), 3, 0))
    assert caught.value.field == "reference"
    assert np.frombuffer(bytes.fromhex(last["content"]), np.uint8).size == 120
