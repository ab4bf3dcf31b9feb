from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from zrepl_trio.config.schema import config_schema

SCHEMA = config_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def faults(text: str) -> int:
    return len(list(VALIDATOR.iter_errors(yaml.safe_load(text))))


def resolved(*path: str) -> Any:
    found: Any = SCHEMA
    for step in path:
        found = found[step]
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "jobs: []",
        "jobs:",
        "global:",
        "global: {logging: , serve: {stdinserver: }}",
        "global: {logging: [{type: stdout, level: info, format: json, time: yes}]}",
    ],
)
def test_what_loads_fits(text: str) -> None:
    assert faults(text) == 0


@pytest.mark.parametrize(
    "text",
    [
        "job: []",
        "jobs: {}",
        "jobs: [{type: pull}]",
        "jobs: [{name: a, type: pigeon}]",
        "global: {control: {path: /x}}",
        "global: {logging: [{type: stdout, level: loud, format: json}]}",
    ],
)
def test_what_does_not_load_does_not_fit(text: str) -> None:
    assert faults(text) > 0


def test_defaults_stand_in_the_files_own_words() -> None:
    connect = resolved("$defs", "SshStdinserverConnect", "properties")
    assert connect["dial_timeout"]["default"] == "10s"
    assert resolved("$defs", "BandwidthLimit", "properties", "max", "default") == "-1 B"
    assert resolved("$defs", "CommandHook", "properties", "filesystems", "default") == {"<": True}


def test_every_key_is_described() -> None:
    bare = [
        f"{name}.{key}"
        for name, section in resolved("$defs").items()
        if not name.startswith("Old")
        for key, value in section["properties"].items()
        # pydantic leaves out a description that the section referred to has already
        if key != "type" and "description" not in value and "$ref" not in str(value)
    ]
    assert bare == []
