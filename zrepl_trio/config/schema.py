"""The JSON schema of config files, for editors.

Made from the models, so it cannot fall behind; only the forms of 0.0.x, which are no models, are
described by hand. It is a help for writing: places, keys and forms; `configcheck` knows more.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from zrepl_trio.config.base import Section
from zrepl_trio.config.model import Config

__all__ = ["config_schema"]

Schema = dict[str, Any]

_NOTES = ("title", "description", "default")
_TEXT: Schema = {"type": "string", "minLength": 1}


def config_schema() -> Schema:
    """The schema (draft 2020-12) of a config file of either generation."""
    schema: Schema = Config.model_json_schema(by_alias=True, schema_generator=_Generator)
    models = {model.__name__: model for model in _models(Section)}
    for name, definition in (*schema["$defs"].items(), ("Config", schema)):
        _write_descriptions(models[name], definition)
        _write_defaults(models[name], definition)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "zrepl-trio config"
    jobs = schema["properties"]["jobs"]["anyOf"][0]
    definitions = schema["$defs"]
    definitions["OldSourceJob"] = _old_source(definitions)
    definitions["OldPullJob"] = _old_pull(definitions)
    definitions["OldLocalJob"] = _old_local()
    jobs["items"] = {
        "anyOf": [
            jobs["items"],
            *({"$ref": f"#/$defs/Old{kind}Job"} for kind in ("Source", "Pull", "Local")),
        ]
    }
    return schema


class _Generator(GenerateJsonSchema):
    # Defaults that JSON cannot hold are written by `_write_defaults`, as they stand in YAML.
    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"non-serializable-default"}  # noqa: RUF012


def _models(base: type[Section]) -> Iterator[type[Section]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


def _write_descriptions(model: type[Section], definition: Schema) -> None:
    """What the docstring below each field says."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Section):
            docs |= _docstrings(base)
    for name, field in model.model_fields.items():
        if name in docs:
            definition["properties"][field.alias or name]["description"] = docs[name]


def _docstrings(model: type[Section]) -> dict[str, str]:
    """By field."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.id: inspect.cleandoc(text)
        for before, after in pairwise(body.body)
        if isinstance(before, ast.AnnAssign)
        and isinstance(field := before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(text := after.value.value, str)
    }


def _write_defaults(model: type[Section], definition: Schema) -> None:
    """Defaults in the file's own words: `10s`, not seconds."""
    defaults = model.model_construct().model_dump(mode="json", by_alias=True)
    properties = definition["properties"]
    for name, value in defaults.items():
        properties[name]["default"] = value
        if isinstance(value, dict | list):
            # What is left empty is null in YAML, and stands for the defaults or the empty list.
            described = {
                key: properties[name].pop(key) for key in _NOTES if key in properties[name]
            }
            properties[name] = {"anyOf": [properties[name], {"type": "null"}], **described}


def _object(kind: str, properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "title": f"{kind} (zrepl 0.0.x)",
        "description": "The first generation's form; it is translated, see --print-current.",
        "properties": {"name": _TEXT, "type": {"const": kind}, "debug": {}, **properties},
        "required": ["name", "type", *required],
        "additionalProperties": False,
    }


_PRUNE: Schema = {
    "type": "object",
    "properties": {
        "policy": {"enum": ["grid", "noprune"]},
        "grid": _TEXT,
        "keep_bookmarks": {"anyOf": [{"const": "all"}, {"type": "integer", "minimum": 0}]},
    },
    "required": ["policy"],
    "additionalProperties": False,
}
_MAPPING: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_INITIAL: Schema = {"enum": ["most_recent", "all"]}


def _old_source(definitions: Schema) -> Schema:
    serve = dict(definitions["StdinserverServe"])
    serve["properties"] = {"type": serve["properties"]["type"], "client_identity": _TEXT}
    serve["required"] = ["type", "client_identity"]
    verdicts = {
        "type": "object",
        "additionalProperties": {"anyOf": [{"enum": ["ok", "!"]}, {"type": "boolean"}]},
    }
    return _object(
        "source",
        {
            "serve": serve,
            "filesystems": verdicts,
            "datasets": verdicts,
            "snapshot_prefix": _TEXT,
            "interval": _TEXT,
            "prune": _PRUNE,
        },
        ["serve", "snapshot_prefix", "interval", "prune"],
    )


def _old_pull(definitions: Schema) -> Schema:
    assert "SshStdinserverConnect" in definitions
    return _object(
        "pull",
        {
            "connect": {"$ref": "#/$defs/SshStdinserverConnect"},
            "interval": _TEXT,
            "mapping": _MAPPING,
            "initial_repl_policy": _INITIAL,
            "snapshot_prefix": _TEXT,
            "prune": _PRUNE,
        },
        ["connect", "interval", "mapping", "snapshot_prefix", "prune"],
    )


def _old_local() -> Schema:
    return _object(
        "local",
        {
            "mapping": _MAPPING,
            "snapshot_prefix": _TEXT,
            "interval": _TEXT,
            "initial_repl_policy": _INITIAL,
            "prune_lhs": _PRUNE,
            "prune_rhs": _PRUNE,
        },
        ["mapping", "snapshot_prefix", "interval", "prune_lhs", "prune_rhs"],
    )
