"""Count what the house style asks for, in `src/spikefed`: `python scripts/habits.py` lists what falls short of it.

Each check returns one line per finding. `tests/test_habits.py` holds them to the limits below, on every change.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "src" / "spikefed"
BODY_LINES = 50
ARGUMENTS = 4
SHAPES = 0.90
TUPLES = 3.0
IGNORES = 25

_TENSOR = re.compile(r"\b(Tensor|ndarray|NDArray)\b")
_SHAPE = re.compile(
    r"``\[[^`\n]*\]``|\[[^\]\n]*\b[A-Z0-9][^\]\n]*\]|int64 \[\w+\]"
    r"|\b[Ss]hapes?\b|\bscalar\b|\b[Ff]lat\b|\bElementwise\b"
)
_TYPED_SHAPE = re.compile(r"\b(Float|Int|UInt|Bool|Num|Shaped|Integer|Inexact)\d*\[")


@dataclass(frozen=True)
class Function:
    """A function or a method as its file states it."""

    file: str
    owner: str
    node: ast.FunctionDef
    bases: tuple[str, ...]

    @property
    def title(self) -> str:
        """File, line and name."""
        name = f"{self.owner}.{self.node.name}" if self.owner else self.node.name
        return f"{self.file}:{self.node.lineno} {name}"

    @property
    def public(self) -> bool:
        """Whether neither the function nor its class is somebody's inner affair."""
        return not any(name.startswith("_") for name in (self.node.name, self.owner))

    @property
    def doc(self) -> str:
        """Its own docstring, or nothing."""
        return ast.get_docstring(self.node) or ""

    @property
    def arguments(self) -> list[ast.arg]:
        """All arguments but ``self`` and ``cls``."""
        given = self.node.args
        stars = [each for each in (given.vararg, given.kwarg) if each is not None]
        return [a for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, *stars) if a.arg not in ("self", "cls")]

    @property
    def inherits_doc(self) -> bool:
        """Whether it says nothing because its class fills in what a base class documents."""
        return not self.doc and bool(self.bases)


@cache
def sources() -> dict[str, str]:
    """Text of every module by its path below the package."""
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(ROOT.rglob("*.py"))}


@cache
def functions() -> tuple[Function, ...]:
    """Functions of modules and methods of classes; what is defined inside a function is its own affair."""
    found = []
    for file, text in sources().items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                found.append(Function(file, "", node, ()))
            if isinstance(node, ast.ClassDef):
                bases = tuple(ast.unparse(base) for base in node.bases)
                methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
                found.extend(Function(file, node.name, each, bases) for each in methods)
    return tuple(found)


def long_bodies() -> list[str]:
    """Functions whose body, its docstring apart, has more than 50 lines."""
    found = []
    for each in functions():
        body = each.node.body[1:] if each.doc else each.node.body
        lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        if lines > BODY_LINES:
            found.append(f"{each.title}: {lines} lines")
    return found


def without_args_block() -> list[str]:
    """Public functions of four arguments or more whose docstring has no ``Args:``.

    Commands describe every argument in its own annotation, where ``--help`` finds it; their docstrings are shown too.
    """
    asked = [f for f in functions() if f.public and len(f.arguments) >= ARGUMENTS and not f.file.startswith("cli/")]
    documented = {(f.file, f.node.name) for f in functions() if f.doc}
    return [
        f.title
        for f in asked
        if "Args:" not in f.doc and not f.inherits_doc and (f.doc or (f.file, f.node.name) not in documented)
    ]


def on_tensors() -> list[Function]:
    """Public functions that take or return a tensor or an array."""
    found = []
    for each in functions():
        notes = [a.annotation for a in each.arguments] + [each.node.returns]
        text = " ".join(ast.unparse(note) for note in notes if note is not None)
        if each.public and not each.inherits_doc and (_TENSOR.search(text) or _TYPED_SHAPE.search(text)):
            found.append(each)
    return found


def without_shape() -> list[str]:
    """Public functions on tensors that state no shape, neither in the docstring nor in an annotation."""
    found = []
    for each in on_tensors():
        notes = [a.annotation for a in each.arguments] + [each.node.returns]
        typed = any(_TYPED_SHAPE.search(ast.unparse(note)) for note in notes if note is not None)
        if not typed and not _SHAPE.search(each.doc):
            found.append(each.title)
    return found


def tuple_assignments() -> list[str]:
    """Assignments of a written-out tuple to a written-out tuple; the swap of two names is one idea."""
    found = []
    for file, text in sources().items():
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)):
                continue
            target = node.targets[0]
            if not isinstance(target, ast.Tuple):
                continue
            names = sorted(map(ast.unparse, target.elts))
            if names != sorted(map(ast.unparse, node.value.elts)):
                found.append(f"{file}:{node.lineno} {', '.join(names)}")
    return found


def lines() -> int:
    """Lines of all modules."""
    return sum(text.count("\n") for text in sources().values())


def silenced() -> list[str]:
    """Lines where the type checker is told to look away."""
    found = []
    for file, text in sources().items():
        found.extend(f"{file}:{n}" for n, line in enumerate(text.splitlines(), 1) if "# type: ignore" in line)
    return found


_ITEM = re.compile(r"^(\*|-|\d+\.|\||#|=|[`\w.*\[\]<>=, ]+:( |$))")
_NO_PROSE = re.compile(r"\S {2,}\S|^(>>>|\.\.\.|==|\|)")
_END = re.compile(r"[.:;!?)\]|`\"',]$")


def _prose(file: str, text: str) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Runs of lines of docstrings and comments: (first line, [(indent, text)])."""
    tree = ast.parse(text)
    rows = text.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            block = rows[node.lineno - 1 : node.end_lineno]
            yield node.lineno, [(len(row) - len(row.lstrip()), row.strip().strip('"').strip()) for row in block]
    comments = [
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip()
    ]
    run: list[tuple[int, str]] = []
    first = last = 0
    for token in comments:
        if token.start[0] != last + 1 and run:
            yield first, run
            run = []
        if not run:
            first = token.start[0]
        run.append((token.start[1], token.string.lstrip("# ")))
        last = token.start[0]
    if run:
        yield first, run


def orphans() -> list[str]:
    """Sentences that a tool cut instead of a person.

    Such a line is one word alone at the end of a paragraph, or it stops in the middle of a sentence, without
    punctuation, with forty columns free. A literal of one word below a literal of several is one too.
    Tables and examples are no prose.
    """
    found = []
    for file, text in sources().items():
        for start, block in _prose(file, text):
            found.extend(f"{file}:{start + place} {what}" for place, what in _torn(block))
        found.extend(f"{file}:{line} a literal of one word" for line in _cut_literals(text))
    return found


def _torn(block: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for place, ((indent, line), (below, after)) in enumerate(zip(block, block[1:], strict=False)):
        if not line or not after or _ITEM.match(after) or below != indent or _NO_PROSE.search(line):
            continue
        free = 120 - indent - len(line)
        if free >= 40 and not _END.search(line):
            yield place, f"stops {free} columns too soon: {line!r}"
        last = place + 2 == len(block) or not block[place + 2][1]
        if last and re.fullmatch(r"[\w'-]+[.]?", after) and not _ITEM.match(line):
            yield place + 1, f"one word alone: {after!r}"


def _cut_literals(text: str) -> Iterator[int]:
    """Lines that are one literal of one word, next to a line that is a longer literal."""
    rows = text.splitlines()
    literal = re.compile(r"^f?\"([^\"{}]*)\"$")
    for number, row in enumerate(rows):
        alone = literal.match(row.strip())
        if alone is None or not re.fullmatch(r"[\w'-]+[,.;:]? ?", alone.group(1)) or number == 0:
            continue
        above = literal.match(rows[number - 1].strip())
        if above is not None and " " in above.group(1) and len(rows[number - 1]) + len(alone.group(1)) < 118:
            yield number + 1


def figures() -> dict[str, str]:
    """One line a habit, as the page on contributing shows them."""
    tensors = on_tensors()
    return {
        "functions over 50 lines": str(len(long_bodies())),
        "functions of four arguments or more without Args": str(len(without_args_block())),
        "functions on tensors that state a shape": f"{1 - len(without_shape()) / len(tensors):.1%} of {len(tensors)}",
        "tuple assignments a 1,000 lines": f"{1000 * len(tuple_assignments()) / lines():.2f}",
        "type: ignore": str(len(silenced())),
        "orphan words": str(len(orphans())),
    }


CHECKS = {
    "long": long_bodies,
    "args": without_args_block,
    "shapes": without_shape,
    "tuples": tuple_assignments,
    "ignores": silenced,
    "orphans": orphans,
}

if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(*CHECKS[name](), sep="\n")
    for title, figure in figures().items():
        print(f"{title:52} {figure}")
