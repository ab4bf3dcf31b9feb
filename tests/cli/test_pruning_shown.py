"""A side's pruning in `status`, in `check` and as news of `run --once`, from report to words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.cli.test_statusview import NOW, ago, pull, shown
from tests.pruning.policies import LAST_1, policy
from tests.replication.notation import path, versions
from zrepl_trio.cli.progress import pruning_news
from zrepl_trio.cli.verdict import JobFacts, Limit, State, judge
from zrepl_trio.control.api import Status
from zrepl_trio.control.documents import status_document
from zrepl_trio.endpoint.refusals import FLOOR
from zrepl_trio.pruning.plan import FilesystemPrune, PruneSide
from zrepl_trio.pruning.plan import judge as judge_filesystem
from zrepl_trio.pruning.report import (
    FilesystemPruneReport,
    LeftAlone,
    PruneReport,
    PruneState,
)

PLAN = FilesystemPrune(
    path=path("tank/a"),
    judgements=judge_filesystem(versions("@a,1 @b,2 @c,3"), policy(LAST_1), None),
)
PENDING = FilesystemPruneReport.of(PLAN)
DONE = replace(PENDING, destroyed=2)
RUNNING = PruneReport(side=PruneSide.SENDER, state=PruneState.EXEC, started=ago(5))
ENDED = replace(RUNNING, state=PruneState.DONE, finished=ago(4), completed=(DONE,))


def test_it_is_shown_from_its_beginning_to_its_end() -> None:
    assert "  pruning (sender): listing" in shown(pull(pruning=(RUNNING,)))
    going_on = replace(RUNNING, pending=(PENDING,))
    assert "  pruning (sender): under way, 0 of 2 snapshots destroyed" in shown(
        pull(pruning=(going_on,))
    )
    assert "  pruning (sender): done 4.0 s ago, 2 of 3 snapshots destroyed" in shown(
        pull(pruning=(ENDED,))
    )


def test_what_failed_and_what_stays_is_shown() -> None:
    left = LeftAlone("old", "it is held")
    bad = replace(DONE, error="tank/a: not all could be destroyed: @b: I/O", left_alone=(left,))
    text = shown(pull(pruning=(replace(ENDED, completed=(replace(bad, foreign=7),)),)))
    assert "  pruning (sender): failed 4.0 s ago" in text
    assert "1 left alone" in text
    assert "    tank/a: not all could be destroyed: @b: I/O" in text
    assert "    tank/a@old: it is held" in text
    assert "    7 snapshots that the job did not take are left" in text
    one = pull(pruning=(replace(ENDED, completed=(replace(bad, foreign=1),)),))
    assert "    1 snapshot that the job did not take is left: `plan --prune` shows it" in shown(one)
    error = replace(RUNNING, state=PruneState.PLAN_ERR, finished=NOW, error="the link is down")
    assert "    the link is down" in shown(pull(pruning=(error,)))


def test_zrepls_keys_are_there() -> None:
    document = status_document(
        [pull(pruning=(ENDED,))], active=(), stuck=(), version="1", started=NOW
    )
    status = Status.model_validate(document)
    raw = status.raw_jobs["pull"]["pull"]
    assert isinstance(raw, dict)
    pruning = raw["PruningSender"]
    assert raw["PruningReceiver"] is None
    assert (pruning["State"], pruning["Error"], pruning["Pending"]) == ("Done", "", [])
    (each,) = pruning["Completed"]
    assert each["Filesystem"] == "tank/a"
    assert [one["Name"] for one in each["DestroyList"]] == ["a", "b"]
    assert each["SnapshotList"][0] == {
        "Name": "a",
        "Replicated": False,
        "Date": "2023-11-14T22:13:21Z",
    }
    assert (each["SkipReason"], each["LastError"]) == ("", "")
    (model,) = status.job("pull").prunings
    assert (model.completed[0].destroyed, model.finish_at) == (2, ago(4))


def test_news_come_at_its_end() -> None:
    assert list(pruning_news(RUNNING)) == []
    assert list(pruning_news(ENDED)) == [
        "pruning (sender): tank/a: 2 of 3 snapshots destroyed",
    ]
    bad = replace(ENDED, completed=(replace(DONE, error="tank/a: no", foreign=1),))
    assert list(pruning_news(bad))[-1] == "pruning (sender): FAILED: tank/a: no"
    assert list(pruning_news(bad))[1] == (
        "pruning (sender): 1 snapshot that the job did not take is left: `plan --prune` shows it, "
        "--destroy-foreign lets it go"
    )
    rude = replace(ENDED, completed=(replace(DONE, error="tank/a: \x1b[2J"),))
    assert list(pruning_news(rude))[-1] == r"pruning (sender): FAILED: tank/a: \x1b[2J"


def test_news_tell_what_was_refused_and_left_alone() -> None:
    def refused(name: str) -> LeftAlone:
        return LeftAlone(name, f"{FLOOR} job 'sink': last_n 3")

    left = (LeftAlone("old", "it is held"), refused("1"), refused("2"))
    told = list(pruning_news(replace(ENDED, completed=(replace(DONE, left_alone=left),))))
    assert told[1:] == [
        "pruning (sender): 2 left alone, the first: tank/a@1: refused: kept by the floor of job 'sink': last_n 3",
        "pruning (sender): 1 left alone: tank/a@old: it is held",
    ]
    rude = (LeftAlone("old", "\x1b[2J"),)
    told = list(pruning_news(replace(ENDED, completed=(replace(DONE, left_alone=rude),))))
    assert told[-1] == r"pruning (sender): 1 left alone: tank/a@old: \x1b[2J"


def test_a_check_warns_of_what_waits_for_a_word() -> None:
    waiting = replace(ENDED, completed=(replace(DONE, foreign=3),))
    for pruning, state in ((ENDED, State.OK), (waiting, State.WARNING)):
        document = status_document(
            [pull(pruning=(pruning,))], active=(), stuck=(), version="1", started=NOW
        )
        told = Status.model_validate(document).job("pull")
        facts = JobFacts(name="pull", type="pull", told=told, newest={})
        now = (NOW + timedelta(seconds=1)).timestamp()
        assert judge([facts], age=Limit(), lag=Limit(), now=now).state is state
