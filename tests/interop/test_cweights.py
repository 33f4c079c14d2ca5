"""Pruned layers of the C file: lists give what rows give, to the bit, and hold and add the weights that are left."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.interop.nets import ABOUT, built, lived_in
from tests.interop.test_c99 import IMAGES, compiled, told

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.interop import About, c_file, flat
from spikefed.interop.cweights import Held, held
from spikefed.probes import Subject, run_probe
from spikefed.probes.sparsity import Sparsity
from spikefed.training import Preprocess


def pruned(net: Any, left: float, seed: int = 0) -> Any:
    """The network with each weight kept by chance; of every layer the first input and the last output have none."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (p for p in net.parameters() if p.dim() > 1):
            weight.mul_(torch.rand(weight.shape, generator=draw) < left)
            weight.mul_(left**-0.5)  # spikes go on
            weight[-1] = 0
            if weight.shape[1] > 1:
                weight[:, 0] = 0
    return net


def emptied(net: Any) -> Any:
    """The network with a layer in which nothing is left; its norm's shift makes it fire all the same."""
    with torch.no_grad():
        [p for p in net.parameters() if p.dim() > 1][1].zero_()
    return net


NETS = {
    "small": lambda: built("small", readout="current"),
    "strided": lambda: built("8C3-AP2-16C3-AP2-32FC", pooling="stride"),
    "cell": lambda: built("cell:0303-0030-2002-0200:width=8"),
    "wide": lambda: built("100C3-300FC"),
    "empty layer": lambda: emptied(built("small", readout="current")),
}


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize(("name", "left"), [*((name, 0.1) for name in NETS), ("small", 0.02), ("small", 0.4)])
def test_lists_give_what_rows_give_to_the_bit(name: str, left: float, weights: str, tmp_path: Path) -> None:
    plain = flat(pruned(NETS[name](), left))
    rows, lists = (c_file(plain, ABOUT, weights, way) for way in ("never", "auto"))
    assert "lists" in {layer.form for layer in lists.layers} and lists.flash_bytes < rows.flash_bytes
    assert {layer.form for layer in rows.layers} <= {"rows", "none"}
    _, before = told(compiled(rows, tmp_path), IMAGES)
    _, after = told(compiled(lists, tmp_path), IMAGES)
    assert np.array_equal(before, after) and np.abs(before).sum() > 0


@pytest.mark.parametrize("name", NETS)
def test_lists_give_the_networks_scores_and_sanitizers_find_nothing(name: str, tmp_path: Path) -> None:
    net = pruned(NETS[name](), 0.1)
    clean = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    labels, scores = told(compiled(c_file(flat(net), ABOUT), tmp_path, "gcc", *clean), IMAGES)
    with torch.no_grad():
        ours = net(ABOUT.preprocess(IMAGES)).mean(0)
    np.testing.assert_allclose(scores, ours.numpy(), rtol=0, atol=1e-5)
    assert labels.tolist() == ours.argmax(1).tolist()


@pytest.mark.parametrize(("name", "height", "pooling"), [
    ("6C1x5-AP1x2-8C3-AP2-4C1x3-9FC", 6, "average"), ("8C1x3-AP1x2-8C1x3-AP1x2-6FC", 1, "stride"),
])  # fmt: skip
def test_convolutions_along_rows_have_lists_too(name: str, height: int, pooling: str, tmp_path: Path) -> None:
    told_of = {"input_shape": (3, height, 12), "classes": 5, "steps": 4, "pooling": pooling, "readout": "current"}
    net = pruned(lived_in(networks.build(name, **told_of)), 0.3)
    about = About("series", Preprocess("raw"), tuple("abcde"), "reals", True)
    made = c_file(flat(net), about)
    lines = [node.name for node in flat(net).nodes if node.line and node.kind == "conv"]
    assert {layer.form for layer in made.layers if layer.name in lines} == {"lists"}
    x = torch.randn(7, 4, 3, height, 12, generator=torch.Generator().manual_seed(0))
    _, scores = told(compiled(made, tmp_path, "gcc", "-O1", "-fsanitize=address,undefined"), x)
    with torch.no_grad():
        ours = net(about.preprocess(x)).mean(0).numpy()
    assert np.abs(ours).sum() > 0
    np.testing.assert_allclose(scores, ours, rtol=0, atol=1e-5)


def counted(made: Any, folder: Path, images: torch.Tensor) -> list[int]:
    """Multiply-adds of every image."""
    program = compiled(made, folder, "gcc", "-O1", "-DNETWORK_COUNT")
    out = subprocess.run([program, "operations"], input=images.numpy().tobytes(), capture_output=True, check=True)
    return [int(line) for line in out.stdout.split()]


def test_the_program_adds_the_operations_that_the_probe_counts(tmp_path: Path) -> None:
    """Those of one convolution of the image stand once here: what it gives is the same at every step."""
    net = pruned(built("8C3-16C3-AP2-32FC"), 0.1)
    made = c_file(flat(net), ABOUT)
    assert {layer.form for layer in made.layers[1:]} == {"lists"}
    shown = Subject(IMAGES, torch.zeros(len(IMAGES), dtype=torch.int64), ABOUT.preprocess, ABOUT.class_names)
    rows = {row["layer"]: float(row["synops"] or 0) for row in run_probe(net, shown, Sparsity()).records}
    told = [rows[layer.name] for layer in made.layers]
    assert min(told[:-1]) > 0
    ours = sum(counted(made, tmp_path, IMAGES)) / len(IMAGES)
    assert ours == pytest.approx(sum(told), rel=1e-9)
    never = sum(counted(c_file(flat(net), ABOUT, lists="never"), tmp_path, IMAGES)) / len(IMAGES)
    assert never > 5 * ours


@pytest.mark.parametrize("words", ["8C3", "8C5-AP2", "6C3-AP2-16C5-AP2-32FC", "8C3-AP2-9FC"])
@pytest.mark.parametrize("pooling", ["average", "stride"])
def test_most_operations_are_pairs_of_an_input_and_a_weight_that_meet(words: str, pooling: str) -> None:
    net = flat(pruned(built(words, pooling=pooling), 0.3))
    for node in net.nodes:
        made, kept = held(node), torch.from_numpy(node.weight != 0).double()
        if node.kind == "conv":
            ones = torch.ones(1, *node.in_shape, dtype=torch.float64)
            met = int(F.conv2d(ones, kept, stride=node.strides, padding=node.padding).sum())
            whole = int(F.conv2d(ones, torch.ones_like(kept), stride=node.strides, padding=node.padding).sum())
        else:
            met, whole = int(kept.sum()), kept.numel()
        assert (made.most, made.most_whole) == (met, whole) and made.left == int(kept.sum()) < met + 1


def test_widths_of_places_and_beginnings_follow_the_sizes() -> None:
    def linear(inputs: int, outputs: int, left: float) -> Held:
        net = networks.build(f"{outputs}FC", input_shape=(1, 1, inputs), classes=10, steps=2, norm="none")
        return held(flat(pruned(net, left)).nodes[0])

    assert [linear(30, outputs, 0.2).suffix for outputs in (256, 257)] == ["8_16", "16_16"]
    assert linear(900, 300, 0.3).suffix == "16_32"
    made = linear(30, 256, 0.2)
    assert made.first is not None and made.at is not None
    assert made.nbytes == made.left * 5 + 31 * 2 and made.first[-1] == made.left == len(made.weight) == len(made.at)


def test_the_rule_looks_at_the_bytes_and_at_what_is_left_of_each_layer() -> None:
    net = pruned(built("8C3-48C3-AP2-32FC"), 0.3)
    forms = {way: [layer.form for layer in c_file(flat(net), ABOUT, lists=way).layers] for way in ("auto", "vectors")}
    assert forms["auto"] == ["lists"] * 4 or forms["auto"][1:] == ["lists"] * 3
    assert forms["vectors"] == ["none" if form == "none" else "rows" for form in forms["auto"]]
    with torch.no_grad():
        for p in (p for p in net.parameters() if p.dim() > 1):
            p.mul_(torch.rand(p.shape, generator=torch.Generator().manual_seed(1)) < 0.05)
    few = {layer.name: layer for layer in c_file(flat(net), ABOUT, lists="vectors").layers}
    assert few["conv2"].form == "lists"  # its rows have 3 x 48 numbers, those of fc1 32
    assert few["fc1"].left > 0 and few["fc1"].form == "rows"
    dense = c_file(flat(built("small")), ABOUT)
    assert {layer.form for layer in dense.layers} == {"rows"} and dense.facts["layers_as_lists"] == 0
    with pytest.raises(ConfigError, match="lists 'always' is not known to the C export; use auto, vectors, never"):
        c_file(flat(net), ABOUT, lists="always")


def test_a_fiftieth_of_the_weights_takes_a_fraction_of_flash_and_text_and_the_head_says_so() -> None:
    net = flat(pruned(built("16C3-AP2-32C3-AP2-256FC", side=28), 0.02))
    rows, lists = (c_file(net, ABOUT, lists=way) for way in ("never", "auto"))
    assert rows.flash_bytes / lists.flash_bytes > 25 and len(rows.text) / len(lists.text) > 14
    assert lists.facts["weights_left"] == sum(int((node.weight != 0).sum()) for node in net.nodes)
    assert lists.facts["most_operations_a_step"] == sum(
        layer.most for layer in lists.layers if layer.form == "lists"
    ) + (sum(layer.most_whole for layer in lists.layers if layer.form == "rows"))
    assert rows.facts["most_operations_a_step"] == sum(layer.most_whole for layer in lists.layers)
    for layer in lists.layers:
        line = next(row for row in lists.text.splitlines() if row.startswith(f" *   {layer.name}"))
        assert f"{layer.left:,} of {layer.whole:,} left, {layer.form}, {layer.nbytes:,} bytes" in line
        assert line.endswith(f"{layer.most:,} of {layer.most_whole:,}")
