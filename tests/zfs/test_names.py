"""Names that come from outside, checked once at the border."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.zfs.names import (
    MAX_NAME_BYTES,
    DatasetPath,
    InvalidName,
    check_component,
    check_identity,
    check_snapshot_name,
)


@pytest.mark.parametrize(
    "text", ["tank", "tank/a", "tank/a b/c:d", "tank/-dash", "t.x/_y", "p/" + "n" * 253]
)
def test_good_paths(text: str) -> None:
    path = DatasetPath.parse(text)
    assert path == text
    assert "/".join(path.components) == text
    assert path.pool == text.partition("/")[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("/tank", "empty component"),
        ("tank/", "empty component"),
        ("tank//a", "empty component"),
        ("tank/../a", "must not be"),
        ("tank/.", "must not be"),
        ("-tank", "starts with '-'"),
        ("tank@a", "character"),
        ("tank#a", "character"),
        ("tank/a%b", "character"),
        ("tank/a\nb", "character"),
        ("tank/a\n", "character"),
        ("tank/a\tb", "character"),
        ("tank/\u00e4", "character"),
        ("tank/\u0661", "character"),
        ("tank/\udc80", "character"),
        ("p/" + "n" * 254, "longer than 255 bytes"),
    ],
)
def test_bad_paths_are_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why):
        DatasetPath.parse(text)


@pytest.mark.parametrize("check", [check_component, check_identity, check_snapshot_name])
def test_components(check: object) -> None:
    assert callable(check)
    assert check("host-1.example.com") == "host-1.example.com"
    for bad in ("", "a/b", ".", "..", "a@b", "n" * 256, "a\n"):
        with pytest.raises(InvalidName):
            check(bad)


def test_families() -> None:
    path = DatasetPath.parse("tank/a/b")
    assert path.parent == "tank/a"
    assert DatasetPath.parse("tank").parent is None
    assert path.ancestors() == ["tank", "tank/a"]
    assert path.is_below("tank/a")
    assert not path.is_below("tank/a/b")
    assert path.is_at_or_below("tank/a/b")
    assert not DatasetPath.parse("tank/ab").is_below("tank/a")
    assert path.relative_to("tank") == "a/b"
    assert path.child("c/d") == "tank/a/b/c/d"
    with pytest.raises(ValueError, match="not below"):
        path.relative_to("tank/b")
    with pytest.raises(InvalidName):
        path.child("../c")


@given(text=st.text(max_size=300))
def test_what_is_taken_is_confined(text: str) -> None:
    try:
        path = DatasetPath.parse(text)
    except InvalidName:
        return
    assert len(path.encode()) <= MAX_NAME_BYTES
    assert path.isascii()
    assert path.isprintable()
    assert not path.startswith(("-", "/"))
    assert not {"", ".", ".."}.intersection(path.split("/"))
    assert not set("@#%,").intersection(path)
