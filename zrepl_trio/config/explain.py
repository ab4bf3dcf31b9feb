"""pydantic's errors as Problems: our words, the key's path, the place in the file."""

from __future__ import annotations

import difflib

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from zrepl_trio.config.base import UnknownKey
from zrepl_trio.config.nodes import Node, key_path, walk
from zrepl_trio.errors import Problem

__all__ = ["MISSING", "Loc", "problems_of"]

MISSING = "required, and missing"
Loc = tuple[str | int, ...]


def problems_of(error: ValidationError, root: Node, prefix: Loc = ()) -> list[Problem]:
    """One Problem for each error; `prefix` is the path of `root` in its file."""
    problems = []
    for detail in error.errors(include_url=False, include_input=True):
        loc: Loc = detail["loc"]
        if to_blame := detail.get("ctx", {}).get("key"):
            loc = (*loc[:-1], to_blame)
        if detail["type"] == "union_tag_invalid":
            loc += ("type",)
        elif detail["type"] == "extra_forbidden":
            loc += ("[key]",)  # the key is what is wrong, not its value
        path, place = walk(root, loc, tagged=True)
        message, accepted = _words(detail)
        problems.append(place.problem(key_path(prefix + path), message, accepted))
    return problems


def _words(detail: ErrorDetails) -> tuple[str, str]:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "config":
            return _short(str(context["message"])), str(context["accepted"])
        case "missing":
            return MISSING, ""
        case "extra_forbidden":
            return _unknown(str(detail["loc"][-1]), detail["input"])
        case "literal_error":
            return f"{_shown(detail['input'])} is not known here", _plain(context["expected"])
        case "union_tag_invalid":
            tag = detail["input"].get("type") if isinstance(detail["input"], dict) else None
            return f"unknown type {_shown(tag)}", _plain(context["expected_tags"])
        case "union_tag_not_found":
            return "the key `type` is missing", ""
        case "model_type" | "model_attributes_type" | "dict_type" | "dict_attributes_type":
            return f"must be a mapping, not {_shown(detail['input'])}", "`key: value` lines"
        case "tuple_type" | "list_type":
            return f"must be a list, not {_shown(detail['input'])}", "`- item` lines"
        case _:
            return detail["msg"], ""


def _plain(quoted: object) -> str:
    """pydantic's `'a', 'b' or 'c'` as `a, b, c`."""
    return str(quoted).replace(" or ", ", ").replace("'", "")


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return _short(repr(str(value)), 80)


def _short(text: str, limit: int = 400) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _unknown(key: str, marker: object) -> tuple[str, str]:
    known = marker.accepted if isinstance(marker, UnknownKey) else ()
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"unknown key{hint}", ", ".join(known)
