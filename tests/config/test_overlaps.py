from __future__ import annotations

from pathlib import Path

import pytest

from zrepl_trio.config.load import load_config, parse_config

CONF = Path(__file__).parents[2] / "conf"
EXAMPLES = sorted({path.name for path in CONF.glob("*.yml")} - {"reference.yml"})
"""The reference shows each key once, and is no setup."""
KEEP = "[{type: regex, regex: '.*'}]"
PERIODIC = "{type: periodic, prefix: %s, interval: 1h}"
MANUAL = "{type: manual}"


def push(
    name: str, filesystems: str, snapshotting: str = MANUAL, keep: str = KEEP, to: str = "b:1"
) -> str:
    return f"""\
- name: {name}
  type: push
  connect: {{type: tcp, address: "{to}"}}
  filesystems: {{{filesystems}}}
  snapshotting: {snapshotting}
  pruning: {{keep_sender: {keep}, keep_receiver: {KEEP}}}
"""


def snap(name: str, filesystems: str, prefix: str | None = "zrepl_", keep: str = KEEP) -> str:
    """Takes none without a prefix."""
    return f"""\
- name: {name}
  type: snap
  filesystems: {{{filesystems}}}
  snapshotting: {MANUAL if prefix is None else PERIODIC % prefix}
  pruning: {{keep: {keep}}}
"""


def pull(name: str, root: str, sender: str, receiver: str = KEEP, of: str = "a:1") -> str:
    return f"""\
- name: {name}
  type: pull
  connect: {{type: tcp, address: "{of}"}}
  root_fs: {root}
  interval: 1h
  pruning: {{keep_sender: {sender}, keep_receiver: {receiver}}}
"""


SINK = """\
- name: sink
  type: sink
  serve: {type: local, listener_name: here}
  root_fs: tank/backup
"""


def notes(*jobs: str) -> list[str]:
    return [str(note) for note in parse_config("jobs:\n" + "".join(jobs)).notes]


@pytest.mark.parametrize(
    "jobs",
    [
        # one takes snapshots, two send them to two places
        (
            snap("s", '"tank<": true'),
            push("a", '"tank<": true'),
            push("b", '"tank<": true', to="c:1"),
        ),
        # neighbours
        (snap("s", '"tank<": true, "tank/b<": false'), snap("t", '"tank/b<": true')),
        (snap("s", '"tank": true'), snap("t", '"tank<": true, "tank": false')),
        # each keeps the other's
        (snap("s", '"tank<": true', "a_"), snap("t", '"tank<": true', "b_")),
        (
            snap("s", '"tank<": true', "a_", keep="[{type: last_n, count: 3}]"),
            snap("t", '"tank<": true', "b_"),
        ),
        # replicas are left out, or sent on and named on purpose
        (SINK, push("a", '"tank<": true, "tank/backup<": false')),
        (SINK, snap("s", '"tank<": true, "tank/backup<": false, "tank/backup": true')),
        (SINK, push("a", '"tank/backup<": true')),
    ],
)
def test_what_gets_on_with_each_other(jobs: tuple[str, ...]) -> None:
    assert notes(*jobs) == []


@pytest.mark.parametrize(
    ("jobs", "place", "words"),
    [
        (
            (snap("s", '"tank<": true'), snap("t", '"tank/a<": true')),
            "10:42: jobs[1].snapshotting.prefix",
            "the same as 'zrepl_'… that job 's' takes of tank/a; let one",
        ),
        (
            (
                snap("s", '"tank<": true', "a_"),
                push("p", '"tank/x": true', keep="[{type: regex, regex: '^b_'}]"),
            ),
            "12:13: jobs[1].pruning.keep_sender",
            "keeps none of the snapshots 'a_'… that job 's' takes of tank/x; add a rule",
        ),
        (
            (
                push("p", '"<": true', keep="[{type: not_replicated}]"),
                snap("s", '"tank<": true', "a_"),
            ),
            "7:13: jobs[0].pruning.keep_sender",
            "keeps none of the snapshots 'a_'… that job 's' takes of tank; add a rule",
        ),
        (
            (SINK, push("p", '"tank<": true')),
            "9:3: jobs[1].filesystems",
            "lets in what job 'sink' receives below tank/backup: replicas of replicas",
        ),
        (
            (
                SINK,
                push("p", '"tank/backup<": true').replace(
                    '{type: tcp, address: "b:1"}',
                    "{type: local, listener_name: here, client_identity: me}",
                ),
            ),
            "9:3: jobs[1].filesystems",
            "replicas of replicas can go round in a circle",
        ),
        (
            (SINK, snap("s", '"tank/backup/a": true')),
            "8:3: jobs[1].filesystems",
            "below tank/backup: snapshots taken there keep the replicas from being received",
        ),
        (
            (
                push("a", '"tank<": true'),
                push("b", '"tank/a": true'),
            ),
            "11:3: jobs[1].filesystems",
            "which job 'a' sends to the same place",
        ),
    ],
)
def test_what_does_harm_is_told_with_its_place(
    jobs: tuple[str, ...], place: str, words: str
) -> None:
    (found,) = notes(*jobs)
    assert found.startswith(f"zrepl.yml:{place}: ")
    assert words in found


GRID = "[{type: grid, grid: '1x1h(keep=all) | 24x1h', regex: '^zrepl_'}]"
LAST = "[{type: last_n, count: 5}]"


def test_two_jobs_that_thin_out_the_same_snapshots_are_told() -> None:
    (note,) = notes(snap("s", '"tank<": true', keep=GRID), push("p", '"tank/a": true', keep=LAST))
    assert "jobs[1].pruning.keep_sender: thins out 'zrepl_'… of tank/a, as job 's' does" in note
    assert "let one keep them all" in note


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (GRID, KEEP),
        (f"{GRID[:-1]}, {{type: regex, regex: '^zrepl_'}}]", LAST),
    ],
)
def test_one_that_keeps_them_all_leaves_them_to_the_other(first: str, second: str) -> None:
    assert (
        notes(snap("s", '"tank<": true', keep=first), push("p", '"tank": true', keep=second)) == []
    )


WAITING = "[{type: not_replicated}, {type: last_n, count: 10}]"
SOME = "[{type: regex, regex: '[02468]_000$'}, {type: last_n, count: 3}]"
OTHERS = (
    "[{type: regex, regex: '^zrepl_', negate: true}, {type: last_n, count: 3, regex: '^zrepl_'}]"
)
LOCAL = """\
- name: source
  type: source
  serve: {type: local, listener_name: here}
  filesystems: {"tank/a": true}
  snapshotting: {type: manual}
"""


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        # two that take none themselves
        (
            (snap("a", '"tank<": true', None, LAST), snap("b", '"tank/b": true', None, GRID)),
            "jobs[1].pruning.keep: thins out snapshots of tank/b, as job 'a' does",
        ),
        (
            (
                push("a", '"tank<": true', keep=WAITING),
                push("b", '"tank<": true', keep=LAST, to="c:1"),
            ),
            "jobs[1].pruning.keep_sender: thins out snapshots of tank, as job 'a' does",
        ),
        # a regex that keeps some of the names only
        (
            (snap("a", '"tank<": true', keep=SOME), snap("b", '"tank<": true', None, LAST)),
            "jobs[1].pruning.keep: thins out 'zrepl_'… of tank, as job 'a' does",
        ),
        (
            (snap("a", '"tank<": true', keep=OTHERS), snap("b", '"tank<": true', None, LAST)),
            "jobs[1].pruning.keep: thins out 'zrepl_'… of tank, as job 'a' does",
        ),
        # of one source
        (
            (pull("a", "p/a", WAITING), pull("b", "p/b", LAST)),
            "jobs[1].pruning.keep_sender: thins out snapshots of what the source has, as job 'a'",
        ),
        (
            (
                LOCAL,
                snap("a", '"tank<": true', None, LAST),
                pull("b", "p/b", LAST).replace(
                    '{type: tcp, address: "a:1"}',
                    "{type: local, listener_name: here, client_identity: me}",
                ),
            ),
            "jobs[2].pruning.keep_sender: thins out snapshots of tank/a, as job 'a' does",
        ),
        # replicas
        (
            (pull("a", "p/a", KEEP, GRID), snap("b", '"p<": true', None, LAST)),
            "jobs[1].pruning.keep: thins out snapshots of p/a<, as job 'a' does",
        ),
        (
            (pull("a", "p/a", KEEP, GRID), snap("b", '"p/a/tank": true', None, LAST)),
            "jobs[1].pruning.keep: thins out snapshots of p/a/tank, as job 'a' does",
        ),
    ],
)
def test_whoever_takes_the_snapshots_two_that_thin_them_out_are_told(
    jobs: tuple[str, ...], words: str
) -> None:
    (note,) = notes(*jobs)
    assert words in note


@pytest.mark.parametrize(
    "jobs",
    [
        (pull("a", "p/a", WAITING), pull("b", "p/b", LAST, of="b:1")),
        (pull("a", "p/a", WAITING), pull("b", "p/b", KEEP)),
        (pull("a", "p/a", KEEP, GRID), snap("b", '"p<": true, "p/a<": false', None, LAST)),
        # about other names
        (
            snap("a", '"tank<": true', None, GRID),
            snap("b", '"tank<": true', None, LAST.replace("5}", "5, regex: '^manual_'}")),
        ),
        # a rule for all names is about those that the job takes, and it takes others
        (
            snap("a", '"tank<": true', "a_", LAST),
            snap("b", '"tank<": true', None, GRID.replace("zrepl_", "b_")),
        ),
        # what one rule for names does not keep, another does
        (
            snap(
                "a",
                '"tank<": true',
                keep="[{type: regex, regex: '[0-4]_000$'}, {type: regex, regex: '[5-9]_000$'}, {type: last_n, count: 3}]",
            ),
            snap("b", '"tank<": true', None, LAST),
        ),
    ],
)
def test_two_that_do_not_meet_are_not_told(jobs: tuple[str, ...]) -> None:
    assert not [note for note in notes(*jobs) if "thins out" in note]


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_example_has_jobs_in_each_others_way(name: str) -> None:
    found = [str(note) for note in load_config(CONF / name).notes]
    assert not [note for note in found if "thins out" in note or "keeps none" in note]
