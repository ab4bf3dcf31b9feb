from __future__ import annotations

import pytest

from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.cli.status import only, wants_raw
from zrepl_trio.control.api import Status


@pytest.mark.parametrize(
    ("mode", "as_json", "raw"),
    [(None, False, False), (None, True, True), ("dump", False, False), ("raw", False, True)],
)
def test_zrepls_modes_are_text_and_json(mode: str | None, as_json: bool, raw: bool) -> None:
    assert wants_raw(mode, as_json=as_json, job=None) is raw


def test_one_job_is_shown_alone_and_an_unknown_one_named() -> None:
    status = Status.model_validate({"Jobs": {"a": {"type": "pull"}, "b": {"type": "source"}}})
    assert list(only(status, "b").raw_jobs) == ["b"]
    with pytest.raises(UsageRefused, match=r"no job 'c' \(its jobs: a, b\)"):
        only(status, "c")
