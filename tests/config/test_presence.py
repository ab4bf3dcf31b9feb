"""Which files load: zrepl's rules on missing, null and zero."""

from __future__ import annotations

import pytest

from tests.config.texts import PULL, SOURCE, faults, job_text
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.model import Config, PullJob


@pytest.mark.parametrize("key", ["name", "serve", "filesystems", "snapshotting"])
def test_required_keys_of_a_source(key: str) -> None:
    assert faults(job_text(SOURCE, **{key: None})) == [f"jobs[0].{key}: required, and missing"]
    assert len(faults(job_text(SOURCE, **{key: f"{key}: ~"}))) == 1


@pytest.mark.parametrize("key", ["name", "connect", "root_fs", "interval", "pruning"])
def test_required_keys_of_a_pull(key: str) -> None:
    assert faults(job_text(PULL, **{key: None})) == [f"jobs[0].{key}: required, and missing"]
    assert len(faults(job_text(PULL, **{key: f"{key}:"}))) == 1


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("name: ''", "jobs[0].name: must not be empty"),
        ("filesystems: {}", "jobs[0].filesystems: must not be empty"),
        (
            "filesystems: []",
            "jobs[0].filesystems: must be a mapping, not a list",
        ),
        (
            "serve: {type: stdinserver, client_identities: []}",
            "jobs[0].serve.client_identities: must not be empty",
        ),
        (
            "serve: {type: stdinserver, client_identities: }",
            "jobs[0].serve.client_identities: must not be empty",
        ),
        (
            "serve: {type: stdinserver, client_identities: [~]}",
            "jobs[0].serve.client_identities[0]: must not be empty",
        ),
        (
            "serve: {type: stdinserver, client_identities: a}",
            "jobs[0].serve.client_identities: must be a list, not 'a'",
        ),
        (
            "serve: {type: tcp, listen: ':1', clients: {}}",
            "jobs[0].serve.clients: must not be empty",
        ),
        ("serve: {client_identities: [a]}", "jobs[0].serve: the key `type` is missing"),
        ("serve: {type: pigeon}", "jobs[0].serve.type: unknown type 'pigeon'"),
        (
            "serve: [a]",
            "jobs[0].serve: must be a mapping, not a list",
        ),
        ("snapshotting: {type: ~}", "jobs[0].snapshotting.type: unknown type nothing"),
    ],
)
def test_required_and_zero_is_refused(line: str, fault: str) -> None:
    assert faults(job_text(SOURCE, **{line.partition(":")[0]: line})) == [fault]


@pytest.mark.parametrize(
    ("keep", "fault"),
    [
        ("[]", "keep_sender: must not be empty"),
        ("[{type: last_n, count: 0}]", "keep_sender[0].count: 0 is out of range"),
        ("[{type: last_n, count: -1}]", "keep_sender[0].count: -1 is out of range"),
        ("[{type: last_n}]", "keep_sender[0].count: required, and missing"),
        ("[{type: regex, regex: ''}]", "keep_sender[0].regex: must not be empty"),
        ("[{type: grid, grid: 1x1h, regex: ''}]", "keep_sender[0].regex: must not be empty"),
        ("[{type: grid, grid: '', regex: a}]", "keep_sender[0].grid: must not be empty"),
        ("[~]", "keep_sender[0]: must be a mapping, not nothing"),
    ],
)
def test_keep_rules_that_are_zero_are_refused(keep: str, fault: str) -> None:
    line = f"pruning: {{keep_sender: {keep}, keep_receiver: [{{type: not_replicated}}]}}"
    assert faults(job_text(PULL, pruning=line)) == [f"jobs[0].pruning.{fault}"]


@pytest.mark.parametrize("section", ["recv", "replication", "conflict_resolution"])
def test_an_empty_section_is_its_defaults(section: str) -> None:
    for value in ("", "~", "{}"):
        (job,) = parse_config(job_text(PULL, more=f"{section}: {value}")).config.jobs
        assert isinstance(job, PullJob)
        assert getattr(job, section) == type(getattr(job, section))()


def test_empty_sections_inside_sections_are_their_defaults() -> None:
    text = job_text(
        PULL,
        recv="recv: {properties: , bandwidth_limit: ~, placeholder: }",
        replication="replication: {protection: , concurrency: }",
    )
    assert parse_config(text).config.jobs[0] == parse_config(job_text(PULL)).config.jobs[0]
    text = "global: {logging: , control: , serve: {stdinserver: }}"
    assert parse_config(text).config == Config()


@pytest.mark.parametrize(
    "text",
    [
        "jobs: []",
        "include: []",
        "global: {monitoring: []}",
        "global: {monitoring: }",
        job_text(PULL, recv="recv: {properties: {inherit: , override: }}"),
        job_text(
            SOURCE,
            snapshotting="snapshotting: {type: periodic, prefix: p, interval: 1h, hooks: []}",
        ),
        job_text(
            PULL,
            connect=(
                "connect: {type: ssh+stdinserver, host: h, user: u, port: 22, identity_file: /k, "
                "options: , transport_open_command: [], ssh_command: }"
            ),
        ),
    ],
)
def test_optional_lists_may_be_empty(text: str) -> None:
    parse_config(text)


def test_logging_missing_null_and_empty_differ() -> None:
    default = parse_config("global: {}").config.global_.logging
    assert [(o.type, o.level, o.format) for o in default] == [("stdout", "warn", "human")]
    assert parse_config("global: {logging: }").config.global_.logging == default
    assert parse_config("global: {logging: []}").config.global_.logging == ()


@pytest.mark.parametrize(
    ("lines", "extra"),
    [
        (PULL, "send: {}"),
        (SOURCE, "recv: {}"),
        (SOURCE, "conflict_resolution: {}"),
        (PULL, "filesystems: {}"),
    ],
)
def test_keys_of_the_other_side_are_unknown(lines: dict[str, str], extra: str) -> None:
    key = extra.partition(":")[0]
    (fault,) = faults(job_text(lines, **{key: extra}))
    assert fault.startswith(f"jobs[0].{key}: unknown key")


def test_a_passive_side_has_a_floor_and_prunes_nothing_itself() -> None:
    missing, unknown = faults(job_text(SOURCE, pruning="pruning: {keep: []}"))
    assert unknown.startswith("jobs[0].pruning.keep: unknown key")
    assert missing.startswith("jobs[0].pruning.floor: required, and missing")
    (fault,) = faults(job_text(SOURCE, pruning="pruning: {floor: [{type: not_replicated}]}"))
    assert "does not know what is replicated" in fault


@pytest.mark.parametrize(
    ("recv", "fault"),
    [
        ("properties: {inherit: [-x]}", "properties.inherit[0]: '-x' is not a ZFS property name"),
        ("properties: {override: {a/b: c}}", "properties.override['a/b']: 'a/b' is not a ZFS"),
        (
            "properties: {inherit: [mountpoint], override: {mountpoint: none}}",
            "properties.override: mountpoint is also in `inherit`",
        ),
        (
            "properties: {inherit: [setuid], accept: [setuid]}",
            "properties.accept: setuid is also in `inherit`",
        ),
        ("placeholder: {encryption: on}", "placeholder.encryption: 'on' is not known here"),
        ("bandwidth_limit: {max: -1}", "bandwidth_limit.max: '-1' is not a size with a unit"),
        ("bandwidth_limit: {max: 0 B}", "bandwidth_limit.max: is less than 1 byte a second"),
        ("bandwidth_limit: {max: 7 bit}", "bandwidth_limit.max: is less than 1 byte a second"),
        (
            "bandwidth_limit: {bucket_capacity: 0 B}",
            "bandwidth_limit.bucket_capacity: is less than",
        ),
    ],
)
def test_recv_options_that_are_refused(recv: str, fault: str) -> None:
    (found,) = faults(job_text(PULL, recv=f"recv: {{{recv}}}"))
    assert found.startswith(f"jobs[0].recv.{fault}")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "replication: {concurrency: {steps: 0}}",
            "replication.concurrency.steps: 0 is out of range",
        ),
        ("replication: {protection: {initial: none}}", "replication.protection.initial: 'none' is"),
        ("conflict_resolution: {initial_replication: some}", "conflict_resolution.initial_repl"),
    ],
)
def test_replication_options_that_are_refused(line: str, fault: str) -> None:
    (found,) = faults(job_text(PULL, more=line))
    assert found.startswith(f"jobs[0].{fault}")


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("timestamp_format: 2006+1", "timestamp_format: `+` is not allowed"),
        ("timestamp_format: ''", "timestamp_format: the format is empty"),
        ("timestamp_format: '%Y'", "timestamp_format: prefix and time would give an illegal"),
        ("timestamp_location: Mars", "timestamp_location: 'Mars' is not a time zone"),
        ("timestamp_location: Europe/Berlin", "timestamp_location: the format 'dense' shows no"),
        ("hooks: [{type: command}]", "hooks[0].path: required, and missing"),
        ("hooks: [{type: command, path: /x, timeout: 0}]", "hooks[0].timeout: must be more than 0"),
        ("hooks: [{type: mysql-lock-tables, dsn: u@/}]", "hooks[0].filesystems: required, and"),
        (
            'hooks: [{type: mysql-lock-tables, dsn: x, filesystems: {"<": true}}]',
            "hooks[0].dsn: has no / before",
        ),
        (
            'hooks: [{type: postgres-checkpoint, dsn: host=h x=y, filesystems: {"<": true}}]',
            "hooks[0].dsn: the parameter x is not known here",
        ),
    ],
)
def test_snapshotting_that_is_refused(more: str, fault: str) -> None:
    line = f"snapshotting: {{type: periodic, prefix: zrepl_, interval: 10m, {more}}}"
    (found,) = faults(job_text(SOURCE, snapshotting=line))
    assert found.startswith(f"jobs[0].snapshotting.{fault}")


@pytest.mark.parametrize(
    ("prefix", "fault"),
    [
        ("a@b", "would be an illegal start of snapshot names 'a@b0'"),
        ("x" * 240, "names would have up to 259 bytes, 19 of them for the time"),
    ],
)
def test_a_prefix_is_blamed_itself(prefix: str, fault: str) -> None:
    line = f"snapshotting: {{type: periodic, interval: 10m, prefix: '{prefix}'}}"
    (found,) = faults(job_text(SOURCE, snapshotting=line))
    assert found.startswith(f"jobs[0].snapshotting.prefix: {fault}")


def test_not_replicated_is_refused_in_a_snap_job() -> None:
    lines = {**SOURCE, "type": "type: snap", "pruning": "pruning: {keep: [{type: not_replicated}]}"}
    del lines["serve"]
    assert faults(job_text(lines)) == [
        "jobs[0].pruning.keep: a snap job replicates nothing, so it takes no not_replicated rule"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("control: {sockpath: ''}", "global.control.sockpath: must not be empty"),
        (f"control: {{sockpath: /{'s' * 107}}}", "global.control.sockpath: the socket's path"),
        ("logging: [{type: stdout}]", "global.logging[0].format: required, and missing"),
        (
            "logging: [{type: syslog, level: warn, format: human, facility: x}]",
            "global.logging[0].facility: 'x'",
        ),
        (
            "logging: [{type: tcp, level: warn, format: json, address: x}]",
            "global.logging[0].address: 'x' has no port",
        ),
        (
            "logging: [{type: tcp, level: warn, format: json, address: 'x:1', net: unix}]",
            "global.logging[0].net: 'unix' is no network over which an `address` of host and port",
        ),
        (
            "logging: [{type: tcp, level: warn, format: json, address: 'x:1', net: udp, tls: {ca: a, cert: b, key: c}}]",
            "global.logging[0]: `tls` needs a connection, and net: udp has none",
        ),
        ("monitoring: [{type: prometheus}]", "global.monitoring[0].listen: required, and missing"),
        (
            "monitoring: [{type: prometheus, listen: ':1'}, {type: prometheus, listen: ':2'}]",
            "global.monitoring: there can be only one prometheus entry",
        ),
        (
            "logging: [{type: stdout, level: warn, format: human}, {type: stdout, level: info, format: json}]",
            "global.logging: there can be only one stdout outlet",
        ),
    ],
)
def test_global_settings_that_are_refused(text: str, fault: str) -> None:
    assert faults(f"global: {{{text}}}")[0].startswith(fault)
