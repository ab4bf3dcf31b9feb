"""What everything else takes for granted of the real commands, and of the guest they run in."""

from __future__ import annotations

import re

from .conftest import Pool, run, text


def value(prop: str, dataset: str) -> str:
    return text("zfs", "get", "-Hp", "-o", "value", prop, dataset)


def test_full_and_incremental_arrive_byte_for_byte(source: Pool, backup: Pool) -> None:
    dataset, replica = source.fresh(), backup.fresh_name()
    file, copy = source.path(dataset) / "f", backup.path(replica) / "f"
    file.write_bytes(b"first" * 1000)
    run("zfs", "snapshot", f"{dataset}@1")
    run("zfs", "bookmark", f"{dataset}@1", f"{dataset}#1")
    run("zfs", "recv", "-u", f"{replica}@1", stdin=run("zfs", "send", f"{dataset}@1").stdout)
    file.write_bytes(b"second" * 1000)
    run("zfs", "snapshot", f"{dataset}@2")
    run("zfs", "destroy", f"{dataset}@1")

    stream = run("zfs", "send", "-i", f"{dataset}#1", f"{dataset}@2").stdout
    run("zfs", "recv", "-u", f"{replica}@2", stdin=stream)

    assert value("guid", f"{replica}@2") == value("guid", f"{dataset}@2")
    assert value("mounted", replica) == "no"
    run("zfs", "mount", replica)
    assert copy.read_bytes() == b"second" * 1000


def test_a_cut_receive_leaves_a_token_and_the_rest_is_enough(source: Pool, backup: Pool) -> None:
    dataset, replica = source.fresh("-o", "compression=off"), backup.fresh_name()
    (source.path(dataset) / "f").write_bytes(bytes(range(256)) * 16384)
    run("zfs", "snapshot", f"{dataset}@1")
    whole = run("zfs", "send", f"{dataset}@1").stdout

    cut = run("zfs", "recv", "-s", "-u", f"{replica}@1", stdin=whole[: 3 * 2**20], ok=False)

    token = value("receive_resume_token", replica)
    said = re.search(r"by running:\s+zfs send -t (\S+)", cut.stderr.decode())
    assert cut.returncode == 1
    assert said is not None
    assert said[1] == token
    rest = run("zfs", "send", "-t", token).stdout
    assert len(rest) < len(whole) - 2 * 2**20
    run("zfs", "recv", "-s", "-u", f"{replica}@1", stdin=rest)
    assert value("receive_resume_token", replica) == "-"
    assert value("guid", f"{replica}@1") == value("guid", f"{dataset}@1")
