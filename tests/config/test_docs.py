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


# Sections in which a key of ours bears a name that zrepl has elsewhere, or that are ours as a whole
NEW_IN = {("SourceJob", "pruning"), ("SinkJob", "pruning")}
OUR_RULES = {"KeepCalendar": "calendar"}

# Behaviour reference, 1.4 to 1.13
ZREPLS = set(
    re.findall(
        r"\w+",
        """
    jobs global include logging monitoring control sockpath serve stdinserver sockdir
    type level format time color facility retry_interval address net tls ca cert key
    listen listen_freebind name filesystems snapshotting pruning keep keep_sender keep_receiver
    connect root_fs interval send recv replication conflict_resolution
    protection initial incremental concurrency steps size_estimates initial_replication
    host user port identity_file options ssh_command transport_open_command dial_timeout
    server_cn listener_name client_identity client_identities clients client_cns handshake_timeout
    encrypted raw send_properties backup_properties large_blocks compressed embedded_data saved
    bandwidth_limit max bucket_capacity properties inherit override placeholder encryption
    prefix hooks timestamp_format timestamp_location cron path timeout err_is_fatal dsn
    keep_snapshot_at_cursor count regex grid negate
    """,
    )
)


def test_the_list_of_our_keys_is_whole_as_who_goes_back_to_zrepl_must_take_them_out() -> None:
    found = {
        (model.__name__, info.alias or name)
        for model in _models(Section)
        if model.__module__.startswith("zrepl_trio.") and model.__name__ not in OUR_RULES
        for name, info in model.model_fields.items()
    }
    ours = {key for section, key in found if key not in ZREPLS or (section, key) in NEW_IN}
    listed = re.search(r"- \*\*Keys of ours:\*\* (.*?) zrepl\s+refuses", DOCS, re.DOTALL)
    assert listed is not None
    names = re.findall(r"`([^`]+)`", listed[1])
    told = {key for name in names for key in name.split(".")}
    assert (ours | set(OUR_RULES.values())) - told == set()
    rules = set(OUR_RULES.values())
    kinds = {"source", "sink", "not_replicated"}
    assert [name for name in names if name.split(".")[-1] not in ours | rules | kinds] == []
    assert {key for _, key in found} - ours | {"pruning"} == ZREPLS


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
