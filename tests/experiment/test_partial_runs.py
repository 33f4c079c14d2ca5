"""Whole runs in which weights travel in part: masks that change, and roles that stay with their clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import spikefed
from experiment.killing import check_killed_is_whole
from experiment.runs import fingerprint
from federated.pruned import EVERY, kept_after
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder, build
from spikefed.experiment import config as configs
from spikefed.experiment.probe import probe_run
from spikefed.networks import read_tensors
from spikefed.wire import Ledger

CHANGE = {"payload": "change"}
BOTH = {**CHANGE, "payload_down": "change"}
FEDAVG, FEDADAM = "federated.pruned:PrunedFedAvg", "federated.pruned:PrunedFedAdam"
PRUNED: dict[str, dict[str, Any]] = {
    "float32": {"method": {"name": FEDAVG}},
    "fp16": {"method": {"name": FEDAVG}, "wire": {"weights_up": "fp16", "weights_down": "fp16"}},
    "server adam": {"method": {"name": FEDADAM, **CHANGE}},
    "stc both ways": {
        "method": {"name": FEDAVG, **BOTH},
        "wire": {"weights_up": "stc-100", "weights_down": "topk-10"},
    },
    "qsgd": {"method": {"name": FEDAVG, **CHANGE}, "wire": {"weights_up": "qsgd-7"}},
    "cosine": {"method": {"name": FEDAVG, **CHANGE}, "wire": {"weights_up": "cosine-4"}},
    "median": {"method": {"name": FEDAVG, "merge": "median"}},
    "prox": {"method": {"name": "federated.pruned:PrunedFedProx", "mu": 0.1}},
    "a liar": {"method": {"name": FEDAVG}, "attack": {"clients": [1], "kind": "scale"}},
}
FEDBN: dict[str, dict[str, Any]] = {
    "fedbn": {"method": {"name": "fedavg", "send": ["weight"]}},
    "fedbn adam": {"method": {"name": "fedadam", "send": ["weight"], **CHANGE}},
    "fedbn prox": {"method": {"name": "fedprox", "send": ["weight", "bn_affine"]}},
    "fedbn stc": {"method": {"name": "fedavg", "send": ["weight"], **BOTH}, "wire": {"weights_up": "stc-100"}},
}
BRANCHES: dict[str, dict[str, Any]] = {
    "branches": {"method": {"name": "federated.branches:Branches"}},
    "branches qsgd": {"method": {"name": "federated.branches:Branches", **CHANGE}, "wire": {"weights_up": "qsgd-7"}},
}
PERSONAL: dict[str, dict[str, Any]] = {
    "own masks": {"method": {"name": "federated.pruned:PersonalFedAvg"}},
    "own masks qsgd": {
        "method": {"name": "federated.pruned:PersonalFedAvg", **CHANGE},
        "wire": {"weights_up": "qsgd-7"},
    },
    "both masks": {"method": {"name": "federated.pruned:BothFedAvg", **CHANGE}},
}
VARIANTS = {**PERSONAL, **PRUNED, **FEDBN, **BRANCHES}


def config(variant: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "rounds": 5,
        "data": {"clients": 3, "private_per_client": 32, "public": 20, "test_limit": 30},
        "network": {"name": "4C3-AP2-12FC", "steps": 4, "norm": "bn"},
        "training": {"local_epochs": 1, "local_batch": 16, "weight_decay": 0.01},
        "run": {"threads": 1},
        **VARIANTS[variant],
        **changes,
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_resumed_and_over_processes_it_ends_where_it_would_have(variant: str, tmp_path: Path) -> None:
    whole = fingerprint(spikefed.run(config(variant), out=tmp_path / "whole"))
    for rounds in (1, 3, 5):  # a mask has changed in the second sitting, which uses two processes
        run = {"threads": 1, "workers": 1 + (rounds == 3)}
        spikefed.run(config(variant, rounds=rounds, run=run), out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == whole


def test_a_probe_reads_the_masked_model_of_a_run(tmp_path: Path) -> None:
    run = spikefed.run(config("float32"), out=tmp_path / "run")
    assert any(":" in name for name in load_file(run / "model.safetensors"))  # some tensors are stored sparse
    last = RunFolder(run).read_lines(RunFolder(run).metrics)[-1]
    assert probe_run(run, "accuracy")["measurements"][-1]["headline"]["accuracy"] == pytest.approx(
        last["server_accuracy"]
    )


@pytest.mark.parametrize("variant", [name for name in VARIANTS if "stc" not in name])
def test_it_runs_with_clients_missing_and_without_quorum(variant: str, tmp_path: Path) -> None:
    schedule = {"schedule": "list", "rounds": [[0, 1], [2], [1], [0, 2], [0, 1, 2]], "quorum": 1}
    folder = RunFolder(spikefed.run(config(variant, participation=schedule), out=tmp_path / "run"))
    assert [line["dropped"] for line in folder.read_lines(folder.metrics)] == [[]] * 5
    schedule["quorum"] = 2
    whole = spikefed.run(config(variant, participation=schedule), out=tmp_path / "whole")
    merged = [line["merged"] for line in RunFolder(whole).read_lines(RunFolder(whole).metrics)]
    assert merged == [True, False, False, True, True]
    for rounds in (2, 5):
        spikefed.run(config(variant, participation=schedule, rounds=rounds), out=tmp_path / "parts", resume=True)
    assert fingerprint(tmp_path / "parts") == fingerprint(whole)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_round_and_resumed_it_is_identical(tmp_path: Path) -> None:
    check_killed_is_whole(
        tmp_path, config("float32", method={"name": "fedadam", **CHANGE}), "federated.pruned:PrunedFedAdam", round=4
    )


def bitmap_bytes(folder: RunFolder) -> dict[tuple[int, int, str], int]:
    """By round, client and direction: payload without the survivors' own bytes (float32) and the byte of the form."""
    return {
        (m["round"], m["client"], m["direction"]): m["payload_bits"] // 8 - m["paper_bytes"] - 1
        for m in folder.read_lines(folder.ledger)
    }


def test_a_bitmap_travels_once_for_every_change_and_survivors_alone_beside_it(tmp_path: Path) -> None:
    schedule = {"schedule": "list", "rounds": [[0, 1], [0, 1], [0, 1], [0, 2], [0, 1, 2]]}
    folder = RunFolder(spikefed.run(config("float32", participation=schedule), out=tmp_path / "run"))
    found = bitmap_bytes(folder)
    told = {(r, c) for (r, c, way), size in found.items() if way == "down" and size}
    # The mask is new in rounds 1, 3 and 5; client 2 comes late and missed the second, client 1 was away in round 4.
    assert told == {(1, 0), (1, 1), (3, 0), (3, 1), (4, 2), (5, 0), (5, 1), (5, 2)}
    assert not any(size for (_, _, way), size in found.items() if way == "up")
    survivors = [
        m["paper_bytes"] for m in folder.read_lines(folder.ledger) if m["client"] == 0 and m["direction"] == "up"
    ]
    assert survivors[0] == survivors[1] > survivors[2] == survivors[3] > survivors[4]
    assert {m["kind"] for m in folder.read_lines(folder.ledger)} == {"selected-weights"}


@pytest.mark.parametrize("variant", PRUNED)
def test_the_mask_is_in_checkpoint_metrics_and_model_file(variant: str, tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(config(variant), out=tmp_path / "run"))
    model = read_tensors(folder.model)
    assert set(model.kept) == {"conv1.weight", "fc1.weight", "fc2.weight"}
    last = kept_after(5 - 5 % EVERY)
    for name, kept in model.kept.items():
        assert int(kept.sum()) == round(last * kept.numel()) and not model.tensors[name][~kept].any()
    density = sum(int(m.sum()) for m in model.kept.values()) / sum(m.numel() for m in model.kept.values())
    line = folder.read_lines(folder.metrics)[-1]
    assert line["diagnostics"]["mask_density"] == pytest.approx(density, abs=1e-6)
    dense = RunFolder(spikefed.run(config("fedbn"), out=tmp_path / "dense"))
    assert folder.model.stat().st_size < dense.model.stat().st_size


def test_a_mask_file_goes_on_where_it_was_read(tmp_path: Path) -> None:
    """Checkpoints hold the mask: the server taken from one goes on under it."""
    federation, ends = build(configs.from_tree(config("server adam"))), []
    for stop in (None, 3):
        server, transport = None, federation.local_transport()
        server = federation.server(transport, Ledger())
        for round in range(1, 6):
            server.run_round()
            if round == stop:
                saved, clients = server.state_dict(), transport.state_dict()
                transport = federation.local_transport()
                server = federation.server(transport, Ledger())
                server.load_state_dict(saved)
                transport.load_state_dict(clients)
        ends.append(server.state_dict()["state"])
    one, other = ends
    assert one.keys() == other.keys() == {"weights", "mask", "m", "v"}
    for key, tensors in one.items():
        assert all(tensors[name].equal(other[key][name]) for name in tensors), key
        assert all(not tensors[name][~kept].any() for name, kept in one["mask"].items()), key


def test_a_branch_is_all_that_its_client_gets_and_returns(tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(config("branches"), out=tmp_path / "run"))
    norms, counters = 16 * (4 + 12 + 10), 3 * 8
    layers = [4 * 36, 4 * 12 * 64, 4 * 10 * 12]
    for m in folder.read_lines(folder.ledger):
        own = layers[(m["client"] + m["round"]) % 3]
        assert m["paper_bytes"] == own + norms + counters, m
        assert own + norms + counters < m["payload_bits"] // 8 < own + norms + counters + 12, (
            m
        )  # the bitmap: whole tensors
    federation = build(
        configs.from_tree(config("branches", data={"clients": 2, "private_per_client": 32, "public": 20}))
    )
    server = federation.server(federation.local_transport(), Ledger())
    before = federation.networks.initial()
    server.run_round()
    after = server.state_dict()["state"]
    assert after["weights"]["conv1.weight"].equal(before["conv1.weight"])  # clients 0 and 1 had the others
    assert not any("conv1.weight" in after[key] and after[key]["conv1.weight"].any() for key in ("m", "v"))
    assert not after["weights"]["fc1.weight"].equal(before["fc1.weight"])


def test_error_feedback_has_one_state_for_all_clients(tmp_path: Path) -> None:
    method = {"name": "federated.branches:Branches", **BOTH}
    with pytest.raises(ConfigError, match="sends every client something else, and codec 'stc-100' has one state"):
        spikefed.run(config("branches", method=method, wire={"weights_down": "stc-100"}), out=tmp_path / "run")


def test_fedbn_sends_its_roles_only_and_is_measured_on_its_clients(tmp_path: Path) -> None:
    ends = {}
    for name, send in (("all", "all"), ("fedbn", ["weight"]), ("named", ["weight", "bn_affine", "bn_stats"])):
        changed = config("fedbn", method={"name": "fedavg", "send": send})
        folder = RunFolder(spikefed.run(changed, out=tmp_path / name))
        records = folder.read_lines(folder.ledger)
        ends[name] = {m["paper_bytes"] for m in records}, folder.model.read_bytes(), fingerprint(folder.path)[0]
    (every,), (few,) = ends["all"][0], ends["fedbn"][0]
    assert every - few == 16 * (4 + 12 + 10) + 3 * 8  # four numbers a channel of three layers, and three counters
    assert ends["all"][1:] == ends["named"][1:]  # to the bit
    federation = build(configs.from_tree(config("fedbn")))
    server = federation.server(federation.local_transport(), Ledger())
    record = server.run_round()
    own = [federation.evaluate(net, 1).accuracy for _, net in server.client_networks()]
    assert len(own) == 3 and record.evaluation is not None and server.whose() == "client 0"
    assert record.evaluation.accuracy == pytest.approx(sum(own) / 3)


def test_what_a_newcomer_would_type_wrong(tmp_path: Path) -> None:
    cases = {
        "'method.send' = \\['weights'\\] in the config: 'weights' is no role": ["weights"],
        "no tensor of this network has the role 'neuron'; the roles of its tensors are weight, bn": ["neuron"],
        "a list of roles such as": [],
    }
    for why, send in cases.items():
        with pytest.raises(ConfigError, match=why):
            spikefed.run(config("fedbn", method={"name": "fedavg", "send": send}), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_key_at_its_default_leaves_the_hash_as_it_was() -> None:
    plain = configs.from_tree(config("fedbn", method={"name": "fedavg"}))
    named = configs.from_tree(config("fedbn", method={"name": "fedavg", "send": "all"}))
    other = configs.from_tree(config("fedbn"))
    assert plain.hash() == named.hash() != other.hash()


def test_bitmaps_of_own_masks_travel_up_once_for_every_change_and_bytes_fall(tmp_path: Path) -> None:
    folder = RunFolder(spikefed.run(config("own masks"), out=tmp_path / "run"))
    found = bitmap_bytes(folder)
    assert {(r, c) for (r, c, way), size in found.items() if way == "down" and size} == {(1, 0), (1, 1), (1, 2)}
    # Clients prune after rounds 1, 2 and 4: their uploads of rounds 2, 3 and 5 are under a new mask.
    told = {r for (r, _, way), size in found.items() if way == "up" and size}
    assert told == {2, 3, 5}
    up = [line["paper_upstream_bytes"] for line in folder.read_lines(folder.metrics)]
    assert up[0] > up[1] > up[2] == up[3] > up[4]
    density = [client["own_density"] for client in folder.read_lines(folder.metrics)[-1]["clients"]]
    assert density[0] > density[1] > density[2]
