"""The C file: compiled without a warning, equal to the network, clean under sanitizers."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.interop.nets import ABOUT, built, lived_in
from tests.interop.test_script import CASES

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.interop import About, CFile, c_file, flat
from spikefed.interop.memory import Arena
from spikefed.neurons import LIFParameters, SendOnDelta
from spikefed.training import Preprocess

STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-DNETWORK_MAIN"]
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} here"))
    for name in ("gcc", "clang" if shutil.which("clang") else "clang-16")
]
IMAGES = torch.randint(0, 256, (30, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
STILL = [case for case in CASES if case[1].get("coding", "direct") in ("direct", "latency")]


def compiled(made: CFile, folder: Path, compiler: str = "gcc", *options: str) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    (folder / "net.c").write_text(made.text)
    words = [compiler, *STRICT, *(options or ("-O2",)), str(folder / "net.c"), "-o", str(folder / "net")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    return folder / "net"


def told(program: Path, images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes and scores of every image."""
    out = subprocess.run([program, "scores"], input=images.numpy().tobytes(), capture_output=True, check=True).stdout
    rows = np.array([[float(word) for word in line.split()] for line in out.decode().splitlines()])
    return rows[:, 0].astype(int), rows[:, 1:]


@pytest.mark.parametrize(("name", "settings"), STILL)
def test_it_gives_the_networks_scores(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    net = built(name, **settings)
    labels, scores = told(compiled(c_file(flat(net), ABOUT), tmp_path), IMAGES)
    with torch.no_grad():
        ours = net(ABOUT.preprocess(IMAGES)).mean(0)
    assert ours.abs().sum() > 0
    np.testing.assert_allclose(scores, ours.numpy(), rtol=0, atol=1e-5)
    assert labels.tolist() == ours.argmax(1).tolist()


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("name", ["small", "cell:0303-0030-2002-0200:width=8"])
def test_sanitizers_find_nothing(name: str, weights: str, compiler: str, tmp_path: Path) -> None:
    clean = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    labels, _ = told(compiled(c_file(flat(built(name)), ABOUT, weights), tmp_path, compiler, *clean), IMAGES)
    assert len(labels) == len(IMAGES)


@pytest.mark.slow
def test_the_clang_of_the_zig_package_gives_the_same_scores_and_its_sanitizer_finds_nothing(tmp_path: Path) -> None:
    """Where there is no clang, ``pip install ziglang`` brings one; it has no address sanitizer (gcc's runs above)."""
    pytest.importorskip("ziglang", reason="no clang from a package (pip install ziglang)")
    made = c_file(flat(built("small")), ABOUT)
    labels, scores = told(compiled(made, tmp_path), IMAGES)
    for options in (["-O2"], ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all"]):
        words = [sys.executable, "-m", "ziglang", "cc", *options, *STRICT, "net.c", "-o", "other"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]
        found, theirs = told(tmp_path / "other", IMAGES)
        assert found.tolist() == labels.tolist() and np.abs(theirs - scores).max() < 1e-6


def test_int8_takes_a_quarter_of_the_flash_and_stays_near(tmp_path: Path) -> None:
    net = built("small", readout="current")
    whole, small = (c_file(flat(net), ABOUT, weights) for weights in ("float32", "int8"))
    assert small.flash_bytes < 0.27 * whole.flash_bytes and small.ram_bytes == whole.ram_bytes
    _, scores = told(compiled(small, tmp_path), IMAGES)
    with torch.no_grad():
        ours = net(ABOUT.preprocess(IMAGES)).mean(0).numpy()
    assert np.abs(scores - ours).mean() < 0.1 * ours.std()


def test_the_file_says_its_sizes_and_they_are_those_of_its_arrays(tmp_path: Path) -> None:
    made = c_file(flat(built("small")), ABOUT)
    out = subprocess.run([compiled(made, tmp_path), "size"], capture_output=True, text=True, check=True).stdout
    assert out == f"flash {made.flash_bytes} bytes, RAM {made.ram_bytes} bytes\n"
    sections = subprocess.run(["size", "-A", tmp_path / "net"], capture_output=True, text=True, check=True).stdout
    bss = next(int(line.split()[1]) for line in sections.splitlines() if line.startswith(".bss"))
    assert made.ram_bytes <= bss < made.ram_bytes + 1024  # main's own picture and the C library's few bytes


def test_pixels_as_floats_with_time_steps(tmp_path: Path) -> None:
    net = lived_in(networks.build("small-1d", input_shape=(3, 1, 5), classes=4, steps=6))
    about = About("series", Preprocess("standard", (0.1, 0.2, -0.3), (1.0, 2.0, 3.0)), tuple("abcd"), "reals", True)
    x = torch.randn(7, 6, 3, 1, 5, generator=torch.Generator().manual_seed(0))
    _, scores = told(compiled(c_file(flat(net), about), tmp_path), x)
    with torch.no_grad():
        np.testing.assert_allclose(scores, net(about.preprocess(x)).mean(0).numpy(), rtol=0, atol=1e-5)


def test_random_coding_draws_at_the_right_rate(tmp_path: Path) -> None:
    for coding, pixel, rate in (("bernoulli", 64, 64 / 255), ("poisson", 128, 128 / 255 / 2)):
        net = networks.build("2FC", input_shape=(1, 1, 1), classes=2, steps=2000, coding=coding, norm="none")
        for name in ("fc1", "fc2"):
            net.get_submodule(name).bias.data.zero_()
        net.get_submodule("fc1").weight.data[:] = torch.tensor([[2.0], [-2.0]])
        net.get_submodule("fc2").weight.data[:] = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        made = c_file(flat(net), About("coin", Preprocess(), ("up", "down")))
        (note,) = made.notes
        assert f"input coding {coding} draws its spikes from a generator of the C file's own" in note
        _, scores = told(compiled(made, tmp_path), torch.full((1, 1, 1, 1), pixel, dtype=torch.uint8))
        assert scores[0, 0] == pytest.approx(rate, abs=0.04) and scores[0, 1] == 0


@pytest.mark.skipif(shutil.which("awk") is None or shutil.which("od") is None, reason="no awk or od here")
def test_every_image_of_a_test_set_by_the_commands_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/export.md").read_text()
    (block,) = [part for part in page.split("```console\n") if "t10k-images" in part.partition("```")[0]]
    commands = [line.removeprefix("$ ") for line in block.partition("```")[0].splitlines()]
    net = built("small")
    program = compiled(c_file(flat(net), ABOUT), tmp_path)
    program.rename(tmp_path / "network")
    with torch.no_grad():
        classes = net(ABOUT.preprocess(IMAGES)).mean(0).argmax(1)
    labels = classes.clone()
    labels[:6] = (labels[:6] + 1) % 10
    for name, head, numbers in (("images-idx3", 16, IMAGES), ("labels-idx1", 8, labels.to(torch.uint8))):
        with gzip.open(tmp_path / f"t10k-{name}-ubyte.gz", "wb") as file:
            file.write(bytes(head) + numbers.numpy().tobytes())
    told = subprocess.run("\n".join(commands), shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(told.stdout) == pytest.approx(24 / 30) and not told.stderr


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_program_of_the_page_compiles_and_gives_the_class(weights: str, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/export.md").read_text()
    (tmp_path / "own.c").write_text(page.partition("```c\n")[2].partition("```")[0])
    net = built("small")
    (tmp_path / "model.c").write_text(c_file(flat(net), ABOUT, weights).text)
    strict = [word for word in STRICT if word != "-DNETWORK_MAIN"]
    done = subprocess.run(["gcc", *strict, "own.c", "-o", "own"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    with torch.no_grad():
        black = net(ABOUT.preprocess(torch.zeros(1, 1, 12, 12, dtype=torch.uint8))).mean(0).argmax(1)
    assert subprocess.run([tmp_path / "own"]).returncode == int(black)


def test_a_torn_image_and_a_wrong_word_are_said(tmp_path: Path) -> None:
    program = compiled(c_file(flat(built("8C3-AP2")), ABOUT), tmp_path)
    torn = subprocess.run([program], input=b"\0" * 150, capture_output=True)
    assert torn.returncode == 2 and b"the last image ends after 6 of 144 values" in torn.stderr
    assert len(torn.stdout.splitlines()) == 1
    assert subprocess.run([program, "help"], capture_output=True).returncode == 2


def test_what_c_cannot_say_is_one_sentence() -> None:
    coded = networks.build("small-1d", input_shape=(3, 1, 1), classes=4, steps=6, coding=SendOnDelta(0.2))
    with pytest.raises(ConfigError, match="input coding 'delta' is not written as C"):
        c_file(flat(coded), ABOUT)
    with pytest.raises(ConfigError, match="weights 'int4' are not known to the C export; use float32 or int8"):
        c_file(flat(built("8C3-AP2")), ABOUT, "int4")


def test_equal_networks_give_equal_texts_and_titles_cannot_break_the_comment() -> None:
    sly = About("a */ int x; /* b", Preprocess(), tuple("abcdefghij"))
    net = flat(built("8C3-AP2", neuron=LIFParameters(decay=0.1, v_threshold=1e-9)))
    text = c_file(net, sly).text
    assert text == c_file(net, sly).text and "*/ int x" not in text


def test_arena_never_gives_one_place_twice() -> None:
    draw, arena, taken = np.random.default_rng(0), Arena(), []
    for moment in range(200):
        size, last = int(draw.integers(1, 50)), moment + int(draw.integers(0, 8))
        place = arena.take(size, moment, last)
        for at, length, until in taken:
            assert until < moment or place + size <= at or at + length <= place
        taken.append((place, size, last))
    assert arena.size == max(at + length for at, length, _ in taken) < sum(length for _, length, _ in taken) / 3
