from __future__ import annotations

import re
from pathlib import Path

from zrepl_trio.config.base import Section
from zrepl_trio.config.load import parse_config
from zrepl_trio.endpoint.confine import Confinement
from zrepl_trio.endpoint.received_properties import ACTING_ON_FILESYSTEMS, ACTING_ON_VOLUMES

DOCS = (Path(__file__).parents[2] / "docs/config.md").read_text()


def _models(model: type[Section]) -> list[type[Section]]:
    return [model, *(inner for child in model.__subclasses__() for inner in _models(child))]


def test_every_key_is_in_the_documentation() -> None:
    prose = re.sub(r"```.*?```", "", DOCS, flags=re.DOTALL)
    words = set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]+)`", prose))))
    keys = {
        info.alias or name
        for model in _models(Section)
        if model.__module__.startswith("zrepl_trio.")
        for name, info in model.model_fields.items()
    }
    assert keys - words == set()


def test_the_properties_left_out_by_default_are_named() -> None:
    named = {name for name in ACTING_ON_FILESYSTEMS + ACTING_ON_VOLUMES if "context" not in name}
    assert [name for name in sorted(named) if f"`{name}`" not in DOCS] == []


def test_the_filter_example_loads_and_decides_as_its_comments_say() -> None:
    (example,) = re.findall(r"```yaml\n(filesystems:.*?)```", DOCS, re.DOTALL)
    lines = "".join(f"  {line}\n" for line in example.splitlines())
    text = (
        "jobs:\n- name: a\n  type: source\n  snapshotting: {type: manual}\n"
        "  serve: {type: stdinserver, client_identities: [b]}\n" + lines
    )
    (job,) = parse_config(text).config.jobs
    assert job.type == "source"
    verdicts = {
        path: job.filesystems.admits(path)
        for path in (
            "tank/a",
            "tank/scratch/a",
            "tank/scratch/keep",
            "tank/scratch/keep/a",
            "tank/home",
            "tank/home/bob",
        )
    }
    assert list(verdicts.values()) == [True, False, True, False, False, True]


def test_the_target_example_loads_and_places_as_its_comments_say() -> None:
    (example,) = re.findall(r"```yaml\n(root_fs: .*?target:.*?)```", DOCS, re.DOTALL)
    lines = "".join(f"  {line}\n" for line in example.splitlines())
    head = "jobs:\n- name: a\n  type: sink\n  serve: {type: local, listener_name: b}\n"
    (job,) = parse_config(head + lines).config.jobs
    assert job.type == "sink"
    confined = Confinement(job.root_fs, targets=job.recv.target)
    said = re.findall(r"# .*?(\S+) +goes to (\S+)", example)
    assert len(said) == len(example.splitlines()) - 3
    assert [(wire, confined.local(wire)) for wire, _ in said] == said
