"""How a scalar may be written, key by key: booleans, numbers, durations, names."""

from __future__ import annotations

import pytest

from tests.config.texts import PULL, SOURCE, faults, job_text
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.model import PullJob, SourceJob


@pytest.mark.parametrize(
    "word", ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"]
)
def test_words_that_are_true(word: str) -> None:
    (job,) = parse_config(job_text(SOURCE, send=f"send: {{raw: {word}}}")).config.jobs
    assert isinstance(job, SourceJob)
    assert job.send.raw is True


@pytest.mark.parametrize(
    "word", [*["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], "~"]
)
def test_words_that_are_false(word: str) -> None:
    (job,) = parse_config(job_text(SOURCE, send=f"send: {{raw: {word}}}")).config.jobs
    assert isinstance(job, SourceJob)
    assert job.send.raw is False


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("'yes'", "'yes' in quotes is a text, not a boolean"),
        ('"true"', "'true' in quotes is a text, not a boolean"),
        ("tRUE", "'tRUE' is not a boolean"),
        ("1", "'1' is not a boolean"),
        ("[true]", "a list is not a boolean"),
    ],
)
def test_what_is_no_boolean(word: str, message: str) -> None:
    text = job_text(SOURCE, send=f"send: {{raw: {word}}}")
    assert faults(text) == [f"jobs[0].send.raw: {message}"]


@pytest.mark.parametrize(
    ("word", "port"),
    [
        ("22", 22),
        ("0x16", 22),
        ("0b10110", 22),
        ("026", 22),
        ("0o26", 22),
        ("2_2", 22),
        ("+22", 22),
    ],
)
def test_integers_as_go_yaml_reads_them(word: str, port: int) -> None:
    line = PULL["connect"].replace("22", word)
    (job,) = parse_config(job_text(PULL, connect=line)).config.jobs
    assert isinstance(job, PullJob)
    assert job.connect.type == "ssh+stdinserver"
    assert job.connect.port == port


@pytest.mark.parametrize(
    "word",
    [
        "0",
        "-1",
        "65536",
        "'22'",
        "22.0",
        "1e1",
        "ssh",
        "~",
        "09",
        "0x",
        "1:30",
        "9" * 30,
        "[22]",
        "{}",
        "0b2",
    ],
)
def test_what_is_no_port(word: str) -> None:
    line = PULL["connect"].replace("22", word)
    (fault,) = faults(job_text(PULL, connect=line))
    assert fault.startswith("jobs[0].connect.port: ")


@pytest.mark.parametrize("word", ["on", "010", "1.0", "2024-01-01", "42", "null-ish", "0x1F"])
def test_any_scalar_is_a_text_as_written(word: str) -> None:
    line = f"serve: {{type: stdinserver, client_identities: [{word}]}}"
    (job,) = parse_config(job_text(SOURCE, serve=line)).config.jobs
    assert isinstance(job, SourceJob)
    assert job.serve.type == "stdinserver"
    assert job.serve.client_identities == (word,)
    override = f"recv: {{properties: {{override: {{x: {word}}}}}}}"
    (pull,) = parse_config(job_text(PULL, recv=override)).config.jobs
    assert isinstance(pull, PullJob)
    assert pull.recv.properties.override == {"x": word}


@pytest.mark.parametrize(
    ("line", "seconds"),
    [("dial_timeout: 10", 1e-8), ("dial_timeout: 1m30s", 90.0), ("dial_timeout: 5ms", 0.005)],
)
def test_dial_timeouts(line: str, seconds: float) -> None:
    text = job_text(PULL, connect=PULL["connect"].replace("}", f", {line}}}"))
    (job,) = parse_config(text).config.jobs
    assert isinstance(job, PullJob)
    assert job.connect.dial_timeout == seconds


@pytest.mark.parametrize("line", ["0", "~", "-1s", "10d", "'10'", "1.5"])
def test_dial_timeouts_of_ssh_that_are_refused(line: str) -> None:
    text = job_text(PULL, connect=PULL["connect"].replace("}", f", dial_timeout: {line}}}"))
    (fault,) = faults(text)
    assert fault.startswith("jobs[0].connect.dial_timeout: ")


def test_dial_timeout_0_is_no_limit_elsewhere() -> None:
    text = job_text(PULL, connect="connect: {type: tcp, address: 'h:1', dial_timeout: 0}")
    (job,) = parse_config(text).config.jobs
    assert isinstance(job, PullJob)
    assert job.connect.dial_timeout == 0


@pytest.mark.parametrize(("word", "seconds"), [("manual", None), ("10m", 600.0), ("1d", 86400.0)])
def test_pull_intervals(word: str, seconds: float | None) -> None:
    (job,) = parse_config(job_text(PULL, interval=f"interval: {word}")).config.jobs
    assert isinstance(job, PullJob)
    assert job.interval == seconds


@pytest.mark.parametrize("word", ["0", "0s", "-10m", "10", "1h30m", "Manual", "''", "~"])
def test_pull_intervals_that_are_refused(word: str) -> None:
    (fault,) = faults(job_text(PULL, interval=f"interval: {word}"))
    assert fault.startswith("jobs[0].interval: ")


@pytest.mark.parametrize("name", ["fetch", "a b", "a.b:c-d_e", "0", "-x", "x" * 203, "on"])
def test_job_names(name: str) -> None:
    assert parse_config(job_text(PULL, name=f"name: '{name}'")).config.jobs[0].name == name


@pytest.mark.parametrize(
    "name", ["_internal", "a/b", "a@b", "a#b", "a%b", ".", "..", "ä", "x" * 204, "a\\nb", "a\\tb"]
)
def test_job_names_that_are_refused(name: str) -> None:
    (fault,) = faults(job_text(PULL, name=f'name: "{name}"'))
    assert fault.startswith("jobs[0].name: ")


@pytest.mark.parametrize(
    "root", ["/backup", "backup/", "a//b", "a/../b", "-a", "a@b", "''", "a" * 256]
)
def test_roots_that_are_refused(root: str) -> None:
    (fault,) = faults(job_text(PULL, root_fs=f"root_fs: {root}"))
    assert fault.startswith("jobs[0].root_fs: ")
