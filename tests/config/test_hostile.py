"""Damaged configs: every one loads or is refused by lines with a place, whatever is broken."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zrepl_trio.config.load import parse_config
from zrepl_trio.config.render import as_yaml, render_config
from zrepl_trio.config.support import unsupported
from zrepl_trio.errors import ConfigErrors, Problem

CONF = Path(__file__).parents[2] / "conf"
TEXTS = [path.read_text() for path in sorted(CONF.glob("*.yml"))]
TREES = [yaml.safe_load(text) for text in TEXTS]


def outcome(text: str) -> None:
    """Loads `text` and uses what was loaded, or checks that each problem is one good line."""
    problems: tuple[Problem, ...]
    try:
        loaded = parse_config(text)
    except ConfigErrors as errors:
        problems = errors.problems
    else:
        problems = tuple(unsupported(loaded))
        printed = parse_config(render_config(loaded.config))
        assert printed.config.jobs == loaded.config.jobs
    for problem in problems:
        assert problem.line > 0
        assert problem.column > 0
        assert problem.message
        assert "\n" not in str(problem)


@st.composite
def cut_texts(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(TEXTS))
    start = draw(st.integers(0, len(text) - 1))
    end = draw(st.integers(start, min(len(text), start + 40)))
    put = draw(st.text(st.sampled_from(" \n\t:-#{}[]'\"&*<!x0"), max_size=6))
    return text[:start] + put + text[end:]


@given(cut_texts())
@settings(max_examples=60)
def test_a_damaged_text_is_a_config_or_a_list_of_problems(text: str) -> None:
    outcome(text)


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree if isinstance(tree, list) else ())
    )
    return [path, *(found for key, value in inner for found in _paths(value, (*path, key)))]


ODD: list[Any] = [
    None,
    "",
    "x",
    "-1",
    0,
    -1,
    1.5,
    True,
    [],
    {},
    [[]],
    [None],
    {"type": "x"},
    "a\nb",
    "\u2028",
    "é" * 300,
]


@st.composite
def bent_trees(draw: st.DrawFn) -> str:
    tree = yaml.safe_load(as_yaml(draw(st.sampled_from(TREES))))
    for _ in range(draw(st.integers(1, 3))):
        paths = [path for path in _paths(tree) if path]
        if not paths:
            break
        *way, last = draw(st.sampled_from(paths))
        node = tree
        for step in way:
            node = node[step]
        match draw(st.sampled_from(["replace", "remove", "rename"])):
            case "remove":
                del node[last]
            case "rename" if isinstance(node, dict):
                node[f"{last}_"] = node.pop(last)
            case _:
                node[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return as_yaml(tree)


@given(bent_trees())
@settings(max_examples=100)
def test_a_bent_tree_is_a_config_or_a_list_of_problems(text: str) -> None:
    outcome(text)


@pytest.mark.parametrize("key", ["jobs", "global", "include"])
@pytest.mark.parametrize("value", ["x", "5", "[5]", "{a: b}", "[[]]", "[{}]", "[~]", "- ~\n- ~"])
def test_top_level_keys_of_any_type(key: str, value: str) -> None:
    outcome(f"{key}:\n  " + value.replace("\n", "\n  "))
