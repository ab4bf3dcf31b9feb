"""Values: what they have of a frozen dataclass at run time."""

from __future__ import annotations

from dataclasses import replace

from zrepl_trio.values import valueclass


@valueclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int = 0


@valueclass(frozen=True, slots=True, kw_only=True)
class Named(Point):
    name: str = ""


def test_a_value_is_what_its_fields_are() -> None:
    assert Point(x=1) == Point(x=1, y=0)
    assert Point(x=1) != Point(x=2)
    assert {Point(x=1): "one"}[Point(x=1)] == "one"
    assert replace(Named(x=1, name="a"), x=2) == Named(x=2, name="a")
    assert Named(x=1) != Point(x=1)
