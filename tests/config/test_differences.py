from __future__ import annotations

import pytest

from tests.config.test_support import HEAD, KEEP
from zrepl_trio.config.differences import differences
from zrepl_trio.config.load import parse_config

PULL = f"{HEAD}  pruning: {{keep_sender: [{KEEP}], keep_receiver: [{KEEP}]}}\n"
SOURCE = """\
jobs:
- name: offer
  type: source
  serve: {type: stdinserver, client_identities: [b]}
  filesystems: {"tank<": true}
  snapshotting: {type: manual}
"""


HOOKS = SOURCE.replace(
    "{type: manual}",
    """
    type: periodic
    interval: 1h
    prefix: zrepl_
    hooks:
    - {type: command, path: /a, err_is_fatal: true}
    - {type: mysql-lock-tables, dsn: "u@/", filesystems: {"<": true}}
    - {type: postgres-checkpoint, dsn: "host=h", filesystems: {"<": true}, err_is_fatal: true}
""",
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            HOOKS,
            [
                "hooks[0]: its post edge runs also",
                "hooks[1]: its post edge runs also",
                "hooks[1]: its `timeout`, 30s",
                "hooks[2]: its `timeout`, 30s",
            ],
        ),
        (HOOKS.replace(", err_is_fatal: true", ""), ["`timeout`"] * 2),
        (PULL, ["(`zfs recv -u`)", "left out", "dropped and sent anew"]),
        (PULL + "  recv: {unmounted: false}\n", ["left out", "dropped and sent anew"]),
        (
            PULL.replace(".*", "^zrepl_", 1),
            ["(`zfs recv -u`)", "left out", "dropped and sent anew", "--destroy-foreign"],
        ),
        (SOURCE, []),
        (SOURCE + "  send: {send_properties: true}\n", ["a zrepl-trio on the other side"]),
    ],
)
def test_only_what_applies_to_the_jobs_is_told_with_its_place(text: str, told: list[str]) -> None:
    notes = [str(note) for note in differences(parse_config(text))]
    assert len(notes) == len(told)
    for note, words in zip(notes, told, strict=True):
        assert words in note
        assert "jobs[0]" in note
