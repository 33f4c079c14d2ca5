"""A reader in another language, written from docs/wire-format.md alone, reads the golden packets and streams."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from .make_golden import PATH

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_a_reader_in_javascript_reads_the_golden_packets() -> None:
    reader = Path(__file__).with_name("reader.mjs")
    done = subprocess.run([str(NODE), str(reader), str(PATH)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {"packets": 24, "referenced": 8}
