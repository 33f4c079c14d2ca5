"""Settings of `tickets` that do not fit together: of another search, unit or schedule, or Early-Time without effect."""

from __future__ import annotations

from typing import Any

from spikefed.errors import ConfigError


def check_used(hyper: Any) -> None:
    """Refuse settings of a search, unit or schedule that this one is not.

    Raises:
        ConfigError: the first of these.
    """
    fields = type(hyper).model_fields
    belongs = {
        "early_time = true": (hyper.early_time, ("probe_rounds", "early_probe", "kl_threshold")),
        "search = 'early-bird'": (hyper.search == "early-bird", ("masks", "mask_distance")),
        "units = 'channels'": (hyper.units == "channels", ("keep_channels",)),
        "a schedule without method.sparsities": (not hyper.sparsities, ("prune", "levels")),
    }
    for where, (there, keys) in belongs.items():
        moved = [key for key in keys if getattr(hyper, key) != fields[key].default]
        if moved and not there:
            raise ConfigError(f"method.{moved[0]} belongs to {where}; set that, or drop it")


def check_early(hyper: Any) -> None:
    """Refuse Early-Time where it has no effect, or no time to choose.

    Raises:
        ConfigError: the first of these.
    """
    if not hyper.early_time:
        return
    if hyper.search in ("snip", "random") or hyper.search_on == "ann":
        raise ConfigError(
            f"method.early_time shortens trainings that look for masks, and search = '{hyper.search}' on the "
            f"{hyper.search_on.upper()} has none with time steps; drop it, or take search = 'imp', 'one-shot' or "
            "'early-bird' with search_on = 'snn'"
        )
    dense = hyper.search_rounds or hyper.level_rounds
    if hyper.early_probe == "within" and hyper.probe_rounds > dense:
        raise ConfigError(
            f"T_early is chosen after method.probe_rounds = {hyper.probe_rounds}, and the dense training is over "
            f"after {dense}; set probe_rounds lower, or early_probe = 'before'"
        )
    later = hyper.search == "imp" and len(hyper.targets) > 1
    if hyper.early_probe == "within" and hyper.probe_rounds == dense and not later:
        raise ConfigError(
            f"T_early is chosen after method.probe_rounds = {dense}, when the one training that looks for masks is "
            "over, so that nothing is shortened; set probe_rounds lower, or early_probe = 'before', or drop early_time"
        )
