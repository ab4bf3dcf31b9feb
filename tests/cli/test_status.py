from __future__ import annotations

import json

import pytest

from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.cli.status import check_delay, json_text, only, wants_raw
from zrepl_trio.control.api import Status


@pytest.mark.parametrize(
    ("mode", "as_json", "raw"),
    [(None, False, False), (None, True, True), ("dump", False, False), ("raw", False, True)],
)
def test_zrepls_modes_are_text_and_json(mode: str | None, as_json: bool, raw: bool) -> None:
    assert wants_raw(mode, as_json=as_json) is raw


def test_one_job_is_shown_alone_and_an_unknown_one_named() -> None:
    status = Status.model_validate({"Jobs": {"a": {"type": "pull"}, "b": {"type": "source"}}})
    assert list(only(status, "b").raw_jobs) == ["b"]
    with pytest.raises(UsageRefused, match=r"no job 'c' \(its jobs: a, b\)"):
        only(status, "c")


def test_json_of_one_job_leaves_the_others_out_and_the_rest_as_it_is() -> None:
    answer = b'{"Jobs":{"a":{"type":"pull","pull":{"New":1}},"b":{"type":"snap"}},"Global":{"X":2}}'
    assert json_text(answer, None).encode() == answer
    assert json.loads(json_text(answer, "a")) == {
        "Jobs": {"a": {"type": "pull", "pull": {"New": 1}}},
        "Global": {"X": 2},
    }


def test_a_delay_is_zrepls_and_of_no_effect() -> None:
    for right in ("1s", "500ms", "1m30s"):
        check_delay(right)
    with pytest.raises(UsageRefused, match="status --delay 5: "):
        check_delay("5")
