"""NIR files: nothing lost on the way there and back, equal spikes through others' readers, and what they refuse."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.interop.nets import ABOUT, built

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.interop import flat, nir_file, nir_graph, nir_name, pre_flight, read_nir
from spikefed.neurons import LIFParameters

nir = pytest.importorskip("nir")
X = torch.rand(5, 1, 12, 12, generator=torch.Generator().manual_seed(3))
FIRES = LIFParameters(decay=0.7, v_threshold=0.1)

SPOKEN: list[tuple[str, dict[str, Any]]] = [
    ("small", {}),
    ("16FC-8FC", {"norm": "none", "neuron": FIRES}),
    ("16FC-8FC", {"norm": "none", "neuron": LIFParameters(decay=0.75, v_threshold=0.05, gain=0.25, strict=False)}),
    ("16FC-8FC", {"norm": "none", "neuron": LIFParameters(decay=1.0, v_threshold=0.3)}),
    ("8C3-AP2-8C3-GAP", {"pooling": "stride", "readout": "current"}),
    ("resnet-small", {}),
    ("small", {"norm": "bntt", "steps": 1, "readout": "current", "neuron": FIRES}),
]


def saved(net: Any, folder: Path) -> Path:
    (folder / "net.nir").write_bytes(nir_file(flat(net), ABOUT))
    return folder / "net.nir"


def verdicts(net: Any) -> dict[str, Any]:
    return {verdict.reader: verdict for verdict in pre_flight(nir_graph(flat(net), ABOUT))}


@pytest.mark.parametrize(("name", "settings"), SPOKEN)
def test_there_and_back_nothing_changes(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    net = built(name, **settings)
    back = read_nir(saved(net, tmp_path), steps=net.steps)
    with torch.no_grad():
        assert torch.equal(back(X), net(X)) and net(X).abs().sum() > 0
    assert (back.input_shape, back.classes, back.readout) == (net.input_shape, net.classes, net.readout)
    neurons = [{node.neuron for node in flat(each).nodes} for each in (net, back)]
    assert neurons[0] == neurons[1]  # surrogate and reset too: training goes on as it was
    again = read_nir(saved(back, tmp_path), steps=net.steps)
    with torch.no_grad():
        assert torch.equal(again(X), net(X))


@pytest.mark.parametrize(("name", "settings"), SPOKEN)
def test_spikingjelly_gives_the_same_spikes(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("nirtorch")
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    net = built(name, **settings)
    assert verdicts(net)["SpikingJelly 2.0"].takes
    theirs = exchange.import_from_nir(saved(net, tmp_path))
    linear = name == "16FC-8FC"
    state, outputs = None, []
    for _ in range(net.steps):
        out, state = theirs(X.flatten(1) if linear else X, state)
        outputs.append(out)
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(outputs), net(X), rtol=0, atol=1e-5)


def in_snntorch(path: Path, x: torch.Tensor, steps: int) -> torch.Tensor:
    reader = pytest.importorskip("snntorch.import_nir")
    pytest.importorskip("nirtorch")
    with redirect_stdout(io.StringIO()):
        theirs = reader.import_from_nir(nir.read(path))
    state, outputs = None, []
    for _ in range(steps):
        out, state = theirs(x, state)
        outputs.append(out[0] if isinstance(out, tuple) else out)
    return torch.stack(outputs)


@pytest.mark.parametrize(("name", "settings"), SPOKEN[1:3])
def test_snntorch_gives_the_same_spikes_of_linear_networks(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    net = built(name, **settings)
    verdict = verdicts(net)["snnTorch 1.0"]
    assert verdict.takes and not verdict.why
    with torch.no_grad():
        ours = net(X)
        torch.testing.assert_close(in_snntorch(saved(net, tmp_path), X.flatten(1), 4), ours, rtol=0, atol=1e-5)


def test_snntorch_takes_images_one_at_a_time_as_the_table_says(tmp_path: Path) -> None:
    net = built("small")
    path = saved(net, tmp_path)
    assert verdicts(net)["snnTorch 1.0"].why == "one image at a time: its Flatten takes the batch along"
    with pytest.raises(RuntimeError):
        in_snntorch(path, X, 1)
    with torch.no_grad():
        torch.testing.assert_close(in_snntorch(path, X[0], 4), net(X[:1])[:, 0], rtol=0, atol=1e-5)


def test_snntorch_refuses_if_as_the_table_says(tmp_path: Path) -> None:
    net = built("16FC", norm="none", neuron=LIFParameters(decay=1.0, v_threshold=0.3))
    verdict = verdicts(net)["snnTorch 1.0"]
    assert not verdict.takes and "refuses IF unless r = 1" in verdict.why
    with pytest.raises(AssertionError, match="r != 1"):
        in_snntorch(saved(net, tmp_path), X.flatten(1), 1)


@pytest.mark.parametrize(
    ("neuron", "why", "theirs"),
    [
        (LIFParameters(decay=0.0, v_threshold=0.3), "tau of fc1_neuron is one time step", "greater than 1"),
        (LIFParameters(decay=0.5, v_threshold=0.3, gain=0.7), "is neither 1 nor tau / dt", "must equal 1 or tau"),
        (LIFParameters(decay=1.0, v_threshold=0.3, gain=0.5), "is not 1 / dt", "must equal 1 / dt"),
    ],
)
def test_spikingjelly_refuses_as_the_table_says(neuron: LIFParameters, why: str, theirs: str, tmp_path: Path) -> None:
    pytest.importorskip("nirtorch")
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    net = built("16FC", norm="none", neuron=neuron)
    verdict = verdicts(net)["SpikingJelly 2.0"]
    assert not verdict.takes and why in verdict.why and verdict.tested
    with pytest.raises(ValueError, match=theirs):
        exchange.import_from_nir(saved(net, tmp_path))


def test_readers_by_their_primitives() -> None:
    pooled, strided = verdicts(built("small")), verdicts(built("8C3-AP2-16FC", pooling="stride"))
    assert not pooled["Norse 1.1"].takes and pooled["Norse 1.1"].why == "leaves AvgPool2d out without a word"
    assert not strided["Spyx 1.0"].takes and "subtracts a step late" in strided["Spyx 1.0"].why
    assert strided["Lava-DL"].takes and not strided["Nengo"].takes
    assert "reads CubaLIF alone" in verdicts(built("16FC"))["Rockpool 3.1"].why
    assert strided["hxtorch"].why == "does not read Conv2d"
    assert verdicts(built("16FC"))["hxtorch"].why == "reads CubaLIF alone"


def test_norse_leaves_the_resistance_out_and_sinabs_takes_seconds_for_steps() -> None:
    unit, halved = (LIFParameters(decay=0.5, v_threshold=0.3, gain=gain) for gain in (1.0, 0.5))
    whole, fits = (verdicts(built("16FC", norm="none", neuron=neuron)) for neuron in (unit, halved))
    assert not whole["Norse 1.1"].takes and "leaves out r" in whole["Norse 1.1"].why
    assert fits["Norse 1.1"].takes and "dt=0.0001" in fits["Norse 1.1"].why
    assert not fits["sinabs 3.1"].takes and "seconds for steps" in fits["sinabs 3.1"].why


def test_sinabs_leaves_a_layer_without_bias_out() -> None:
    graph = nir_graph(flat(built("16FC", norm="none")), ABOUT)
    layer = graph.nodes["fc1"]
    graph.nodes["fc1"] = nir.Linear(layer.weight)
    whys = {verdict.reader: verdict.why for verdict in pre_flight(graph)}
    assert whys["sinabs 3.1"] == "leaves Linear out without a word"
    assert "Linear" not in whys["Norse 1.1"]


def test_norse_takes_the_batch_along_in_a_flatten() -> None:
    halved = LIFParameters(decay=0.5, v_threshold=0.3, gain=0.5)
    strided = verdicts(built("8C3-AP2-16FC", pooling="stride", neuron=halved))["Norse 1.1"]
    assert strided.takes
    assert strided.why == "one image at a time: its Flatten takes the batch along; give its from_nir dt=0.0001"


def test_a_time_step_is_a_tenth_of_a_millisecond_and_bias_and_batch_norm_are_in_the_weights() -> None:
    graph = nir_graph(flat(built("small")), ABOUT)
    lif = graph.nodes["conv1_neuron"]
    np.testing.assert_allclose(1 - 1e-4 / lif.tau, 0.5)
    assert lif.metadata["dt"] == graph.metadata["dt"] == 1e-4 and not lif.v_reset.any()
    assert graph.nodes["conv1"].bias.any() and graph.nodes["fc1"].bias.any()
    assert set(type(node).__name__ for node in graph.nodes.values()) == {
        *("Input", "Conv2d", "LIF", "AvgPool2d", "Flatten", "Affine", "Output")
    }


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("small", {"neuron": LIFParameters(kind="soft", decay=0.9, v_threshold=1.0)}, "conv1 of small resets by subtr"),
        ("small", {"norm": "bntt"}, "has a norm with numbers for each time step"),
        ("small", {"neuron": replace(FIRES, start=0.5)}, r"conv1 of small begins charged \(network.neuron.start\)"),
        ("small", {"pooling": "max"}, "takes the largest of a window"),
        ("cell:0303-0030-2002-0200:width=8", {}, "an edge leads backward in time to node"),
    ],
)
def test_what_nir_cannot_say_is_one_sentence(name: str, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        nir_file(flat(built(name, **settings)), ABOUT)


def test_a_rectified_network_is_none_of_nirs() -> None:
    twin = networks.ann_twin("small", input_shape=(1, 12, 12), classes=10)
    with pytest.raises(ConfigError, match="is no spiking neuron"):
        nir_file(flat(twin), ABOUT)


def test_damaged_foreign_and_old_files(tmp_path: Path) -> None:
    path = saved(built("16FC", norm="none"), tmp_path)
    with pytest.raises(ConfigError, match="there is no NIR file"):
        read_nir(tmp_path / "none.nir", steps=4)
    (tmp_path / "torn.nir").write_bytes(path.read_bytes()[:2000])
    (tmp_path / "text.nir").write_text("hello")
    for name in ("torn.nir", "text.nir"):
        with pytest.raises(ConfigError, match="cannot be read as NIR .*take a whole copy"):
            read_nir(tmp_path / name, steps=4)
    import h5py

    with h5py.File(path, "r+") as file:
        del file["version"]
        file["version"] = "1.0.4"
    with pytest.raises(ConfigError, match=r"written by nir 1.0.4, before files said what a neuron resets to"):
        read_nir(path, steps=4)


def neurons(**changed: Any) -> Any:
    told = {key: np.full(3, value) for key, value in {"tau": 2e-4, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0}.items()}
    told["v_reset"] = np.zeros(3)
    return nir.LIF(**{**told, **changed})


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (neurons(v_threshold=np.array([1.0, 2.0, 3.0])), "has 3 different values of v_threshold"),
        (neurons(v_reset=np.full(3, 0.5)), "has v_reset = 0.5"),
        (neurons(v_leak=np.full(3, -1.0)), "has v_leak = -1"),
        (neurons(tau=np.full(3, 1e-5)), "has tau = 1e-05 s; a time step of 0.0001 s needs tau from there up"),
        (nir.LI(np.full(3, 2e-4), np.ones(3), np.zeros(3)), "is a LI; spikefed reads"),
        (nir.Threshold(np.ones(3)), "is a Threshold"),
        (neurons(v_threshold=np.zeros(3)), "has v_threshold = 0; spikefed's are above 0"),
        (neurons(r=np.full(3, np.nan)), "holds r that are not finite"),
    ],
)
def test_nodes_of_others_that_our_layers_cannot_compute(node: Any, text: str, tmp_path: Path) -> None:
    graph = nir.NIRGraph.from_list(nir.Affine(np.ones((3, 4)), np.zeros(3)), node)
    nir.write(tmp_path / "other.nir", graph)
    with pytest.raises(ConfigError, match=text):
        read_nir(tmp_path / "other.nir", steps=4)


def test_two_edges_into_the_output_are_one_sentence(tmp_path: Path) -> None:
    told = {"a": nir.Affine(np.ones((3, 4)), np.zeros(3)), "b": neurons(), "c": neurons()}
    ends = {"in": nir.Input({"input": np.array([4])}), "out": nir.Output({"output": np.array([3])})}
    edges = [("in", "a"), ("a", "b"), ("a", "c"), ("b", "out"), ("c", "out")]
    nir.write(tmp_path / "two.nir", nir.NIRGraph({**ends, **told}, edges))
    with pytest.raises(ConfigError, match="node out of .* has 2 edges into it; spikefed reads graphs with one"):
        read_nir(tmp_path / "two.nir", steps=4)


def test_the_time_step_of_a_file_that_says_none(tmp_path: Path) -> None:
    graph = nir.NIRGraph.from_list(nir.Affine(np.ones((3, 4)), np.zeros(3)), neurons(tau=np.full(3, 2e-3)))
    nir.write(tmp_path / "slow.nir", graph)
    for dt, decay in ((None, 0.95), (1e-3, 0.5)):
        (node,) = flat(read_nir(tmp_path / "slow.nir", steps=4, dt=dt)).nodes
        assert node.neuron is not None and node.neuron.decay == pytest.approx(decay)
    assert nir_name("nir:a/b.nir") == ("a/b.nir", None) and nir_name("nir:b.nir:dt=0.001") == ("b.nir", 1e-3)
    for text in ("x", "-1", "nan", ""):
        with pytest.raises(ConfigError, match="write seconds, as in nir:b.nir:dt=0.001"):
            nir_name(f"nir:b.nir:dt={text}")


def test_a_file_of_others_is_computed_as_nir_means_it(tmp_path: Path) -> None:
    weight = np.array([[1.0, 0.0, 0.5, 0.0]])
    lif = nir.LIF(*(np.array([v]) for v in (2e-4, 2.0, 0.0, 1.0)), v_reset=np.zeros(1))
    nir.write(tmp_path / "other.nir", nir.NIRGraph.from_list(nir.Affine(weight, np.array([0.1])), lif))
    net = read_nir(tmp_path / "other.nir", steps=3)
    assert net.input_shape == (4, 1, 1)
    spikes = net(torch.tensor([[0.5, 9.0, 0.0, 9.0]]).view(1, 4, 1, 1))
    assert spikes.flatten().tolist() == [0, 0, 1]  # u = 0.6, 0.9, 1.05
