"""A config as YAML in today's form: what `configcheck --print-current` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from zrepl_trio.config.model import Config

__all__ = ["as_yaml", "render_config", "whole_config"]


class _Dumper(yaml.SafeDumper):
    """Block style, lists indented, no aliases, texts that read as something else quoted."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def as_yaml(data: object) -> str:
    """Plain data as block-style YAML."""
    text = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=1000,
    )
    return str(text)


def render_config(config: Config) -> str:
    """The keys that were set, with today's names; loading the text gives an equal config.

    Jobs of included files stand among the jobs, so `include` is left out.
    """
    data = config.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"include"})
    jobs = data.pop("jobs", [])
    return as_yaml(_type_first({**data, "jobs": jobs}))


def whole_config(config: Config, part: str = "all") -> object:
    """Every key with its value, defaults too, as plain data; `part` `jobs` or `logging` leaves only
    that, at its place in the whole."""
    parts: Mapping[str, Any] = {"jobs": {"jobs"}, "logging": {"global_": {"logging"}}}
    data = config.model_dump(
        mode="json", by_alias=True, include=parts.get(part), exclude={"include"}
    )
    return _type_first(data)


def _type_first(value: object) -> object:
    """Sections as people write them: name and type before the rest."""
    if isinstance(value, dict):
        first = [key for key in ("name", "type") if key in value]
        rest = [key for key in value if key not in first]
        return {key: _type_first(value[key]) for key in (*first, *rest)}
    if isinstance(value, list):
        return [_type_first(item) for item in value]
    return value
