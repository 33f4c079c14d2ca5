"""The line of settings above a probe's tables."""

from __future__ import annotations

from spikefed.report.probes import settings_text


def test_settings_read_like_words() -> None:
    hyper = {
        "images": None,
        "eps": [2.0, 8.0],
        "attacks": ["fgsm", "pgd"],
        "start": True,
        "changes": {},
        "ages": [],
        "level": 0.95,
    }
    assert settings_text({"hyper": hyper}) == "eps = 2 8, attacks = fgsm pgd, start = true, level = 0.95"
