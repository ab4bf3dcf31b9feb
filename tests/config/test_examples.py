"""Every file in conf/ loads, says what is expected of it, and fits the schema."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from zrepl_trio.config.base import Section
from zrepl_trio.config.load import load_config, parse_config
from zrepl_trio.config.render import render_config
from zrepl_trio.config.schema import config_schema
from zrepl_trio.config.support import unsupported

CONF = Path(__file__).parents[2] / "conf"
SCHEMA = jsonschema.Draft202012Validator(config_schema())
FILES = sorted(path.name for path in CONF.glob("*.yml"))

# For each file: the keys that this version refuses.
EXPECTED: dict[str, set[str]] = {
    "source.yml": set(),
    "pull.yml": set(),
    "monitoring.yml": set(),
    "zrepl-0.0.x-source.yml": set(),
    "zrepl-0.0.x-pull.yml": set(),
    "push.yml": set(),
    "sink.yml": set(),
    "tls.yml": set(),
    "local.yml": set(),
    "snap.yml": set(),
    "fan-out-app-srv.yml": set(),
    "fan-out-near.yml": set(),
    "fan-out-far.yml": set(),
    "chain-app-srv.yml": set(),
    "chain-backup-srv.yml": set(),
    "chain-vault.yml": set(),
}


@pytest.mark.parametrize("name", FILES)
def test_example_loads_and_prints_what_loads_again(name: str) -> None:
    loaded = load_config(CONF / name)
    assert loaded.config.jobs
    again = parse_config(render_config(loaded.config)).config
    assert again.model_copy(update={"include": ()}) == loaded.config.model_copy(
        update={"include": ()}
    )


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_example_is_run_or_refused_as_expected(name: str) -> None:
    loaded = load_config(CONF / name)
    assert {problem.key for problem in unsupported(loaded)} == EXPECTED[name]
    assert all(problem.line > 0 for problem in unsupported(loaded))


def test_every_example_has_its_expectation() -> None:
    assert {*EXPECTED, "reference.yml"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_example_fits_the_schema(name: str) -> None:
    SCHEMA.validate(yaml.safe_load((CONF / name).read_text()))


def _models(model: type[Section]) -> list[type[Section]]:
    below = [inner for child in model.__subclasses__() for inner in _models(child)]
    return below or [model]


def _used(section: object, seen: dict[str, set[str]]) -> None:
    if isinstance(section, Section):
        seen.setdefault(type(section).__name__, set()).update(section.model_fields_set)
        for name in type(section).model_fields:
            _used(getattr(section, name), seen)
    elif isinstance(section, tuple):
        for item in section:
            _used(item, seen)


def test_the_reference_shows_every_key_of_every_section() -> None:
    seen: dict[str, set[str]] = {}
    _used(load_config(CONF / "reference.yml").config, seen)
    missing = {
        f"{model.__name__}.{key}"
        for model in _models(Section)
        if model.__module__.startswith("zrepl_trio.config.")
        for key in model.model_fields
        if key not in seen.get(model.__name__, set())
    }
    # Push, sink and snap jobs repeat sections that source and pull show.
    assert missing <= {
        "PushJob.send",
        "PushJob.replication",
        "PushJob.conflict_resolution",
        "SinkJob.recv",
        "SourceJob.pruning",
    }
