"""What the house style asks for, counted: `python scripts/habits.py CHECK` names every place."""

from __future__ import annotations

import ast

import pytest
from scripts import habits


def test_bodies_are_short() -> None:
    assert habits.long_bodies() == []


def test_many_arguments_are_explained() -> None:
    assert habits.without_args_block() == []


def test_tensors_have_shapes() -> None:
    missing = habits.without_shape()
    assert 1 - len(missing) / len(habits.on_tensors()) >= habits.SHAPES, missing


def test_one_idea_a_line() -> None:
    found = habits.tuple_assignments()
    assert 1000 * len(found) / habits.lines() < habits.TUPLES, found


def test_the_type_checker_is_listened_to() -> None:
    assert len(habits.silenced()) < habits.IGNORES, habits.silenced()


def test_no_orphan_words() -> None:
    assert habits.orphans() == []


BAD = '''"""A module whose text
was cut by a tool, in the middle of it."""


def crowded(a, b: Tensor, c, d):
    """Says nothing of them, at a length that makes a person who reads this line go on to the next one for the last
    word.
    """
    x, y = a, b
    x, y = y, x
    text = (
        "a literal of several"
        "words"
    )
    return b  # type: ignore
'''


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch):
    """The checks, looking at one bad module."""
    for cached in (habits.sources, habits.functions):
        cached.cache_clear()
    monkeypatch.setattr(habits, "sources", lambda: {"bad.py": BAD})
    yield
    monkeypatch.undo()
    habits.functions.cache_clear()


def test_the_checks_see_what_they_look_for(planted: None) -> None:
    assert habits.without_args_block() == ["bad.py:5 crowded"]
    assert habits.without_shape() == ["bad.py:5 crowded"]
    assert habits.tuple_assignments() == ["bad.py:9 x, y"]
    assert habits.silenced() == ["bad.py:15"]
    assert [line.split(" ")[0] for line in habits.orphans()] == ["bad.py:1", "bad.py:7", "bad.py:13"]


def test_long_bodies_are_seen(planted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "def f():\n" + "    x = 1\n" * 51
    ast.parse(long)
    monkeypatch.setattr(habits, "sources", lambda: {"long.py": long})
    habits.functions.cache_clear()
    assert habits.long_bodies() == ["long.py:1 f: 51 lines"]
