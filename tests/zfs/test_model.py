"""Versions in their order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.zfs.model import FilesystemVersion, VersionKind, in_order

versions = st.lists(
    st.builds(
        FilesystemVersion,
        kind=st.sampled_from(VersionKind),
        name=st.text("ab", min_size=1, max_size=3),
        guid=st.integers(1, 99),
        createtxg=st.integers(1, 6),
        creation=st.just(0),
    ),
    max_size=12,
)


@given(versions)
def test_oldest_first_and_of_one_transaction_the_bookmark(listed: list[FilesystemVersion]) -> None:
    assert in_order(listed) == sorted(listed, key=lambda v: (v.createtxg, v.is_snapshot))
