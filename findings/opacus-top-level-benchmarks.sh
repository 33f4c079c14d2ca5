#!/usr/bin/env bash
# opacus 1.6.0, the accountant and per-sample gradients of DP-SGD: which import names does its wheel install?
# Guess before the run: opacus alone.
# Seen: packages called benchmarks and examples beside it, so that `import benchmarks` finds opacus's own scripts in
# every environment that holds it, unless a folder of that name stands earlier on the path.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps opacus==1.6.0
cat > "$folder/see.py" <<'PY'
import importlib.metadata
import importlib.util
import sys

found = importlib.metadata.distribution("opacus")
names = sorted({path.parts[0] for path in found.files if path.suffix == ".py" and len(path.parts) > 1})
print("opacus", found.version, "-> import names", names)
spec = importlib.util.find_spec("benchmarks")
print("benchmarks ->", spec and spec.origin and "benchmarks/" + spec.origin.rsplit("/", 1)[-1])
sys.exit(0 if names == ["benchmarks", "examples", "opacus"] and spec is not None else 1)
PY
cd "$folder"
"$folder/venv/bin/python" see.py
