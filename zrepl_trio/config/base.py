"""The base of every config section and the machinery that builds field types.

zrepl's presence rules live here and in `fields` (they come from its YAML library's tags): a key is
required and then must not be zero, or has a default that counts only when the key is absent; null
is the zero value, except that a section with defaults of its own takes them for null too
(`FromDefaults`). A value comes from YAML (`PlainScalar`, `str`, None) or, in code, as what it
stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from zrepl_trio.config.nodes import PlainScalar
from zrepl_trio.config.scalars import ScalarError
from zrepl_trio.zfs.names import InvalidName

__all__ = [
    "BOOL_WORDS",
    "FromDefaults",
    "Reads",
    "Section",
    "UnknownKey",
    "bad",
    "bool_of",
    "int_of",
    "parsed",
    "text_of",
]

T = TypeVar("T")

BOOL_WORDS = "true or false, unquoted"

# A tab is left to the names' own rules; it may well stand in a database DSN.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_INT = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)", re.ASCII)
_BOOLS = dict.fromkeys(
    ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True
) | dict.fromkeys(
    ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False
)


def bad(message: str, accepted: str = "", *, key: str = "") -> PydanticCustomError:
    """The error that validators raise; `explain` shows both parts. `key` is the one beside it that is to
    blame, where a validator looks at several together."""
    return PydanticCustomError(
        "config", "{message}", {"message": message, "accepted": accepted, "key": key}
    )


class FromDefaults:
    """Marks a field (in its Annotated type) whose null means its defaults."""


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """Put in place of an unknown key's value, so that pydantic's error tells the known ones."""

    accepted: tuple[str, ...]


class Section(BaseModel):
    """One mapping of the config: frozen, no unknown keys."""

    # without `use_attribute_docstrings`, for which every command would parse all of these sources: see schema.py
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        known = {key for name, info in cls.model_fields.items() for key in (name, info.alias)}
        accepted = tuple(info.alias or name for name, info in cls.model_fields.items())
        prepared: dict[object, object] = {}
        for key, value in data.items():
            if key not in known:
                prepared[key] = UnknownKey(accepted)
            elif value is not None or key not in cls._null_means_defaults():
                prepared[key] = value
        return prepared

    @classmethod
    def _null_means_defaults(cls) -> set[str]:
        return {
            info.alias or name
            for name, info in cls.model_fields.items()
            if FromDefaults in info.metadata
        }


class Reads(Generic[T]):
    """Annotated metadata: this type is read by `validate`, printed by `show`, described by `schema`."""

    def __init__(
        self, validate: Callable[[object], T], show: Callable[[T], object], schema: dict[str, Any]
    ) -> None:
        self.validate = validate
        self.show = show
        self.schema = schema

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(self.show),
        )

    def __get_pydantic_json_schema__(self, schema: object, handler: object) -> dict[str, Any]:
        return dict(self.schema)


def _kind(value: object) -> str:
    match value:
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            return repr(str(value))
        case None:
            return "nothing"
        case _:
            return repr(value)


def text_of(value: object) -> str:
    """Any scalar as it is written; null is the empty text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise bad(f"must be a text, not {_kind(value)}", "one line of text")
    if _CONTROL.search(value):
        raise bad("holds a line break or control character", "one line of text")
    return str(value)


def bool_of(value: object) -> bool:
    """A YAML 1.1 boolean; a quoted word is none; null is false."""
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _BOOLS:
        if isinstance(value, PlainScalar):
            return _BOOLS[value]
        raise bad(f"{_kind(value)} in quotes is a text, not a boolean", BOOL_WORDS)
    raise bad(f"{_kind(value)} is not a boolean", BOOL_WORDS)


def int_of(value: object) -> int:
    """What go-yaml reads as an integer: also 0x, 0o, 0b, a leading 0 as octal, `_` between digits."""
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and not isinstance(value, PlainScalar):
        raise bad(f"{_kind(value)} in quotes is a text, not an integer", "an integer")
    text = str(value).replace("_", "") if isinstance(value, PlainScalar) else ""
    if len(text) > 20 or not text or not _INT.fullmatch(text):
        raise bad(f"{_kind(value)} is not an integer", "an integer")
    digits = text.lstrip("+-").lower()
    if digits[0] == "0" and digits[1:2] not in {"x", "b", "o"}:
        digits = "0o" + digits
    if digits == "0o":
        raise bad(f"{_kind(value)} is not an integer", "an integer")
    return int(digits, 0) * (-1 if text[0] == "-" else 1)


def parsed(
    parse: Callable[[str], T], kind: type[T], accepted: str = "", *, empty: bool = False
) -> Callable[[object], T]:
    """A validator by `parse`. A `kind` other than str passes as it is; empty text only if `empty`."""

    def validate(value: object) -> T:
        if isinstance(value, kind) and not isinstance(value, str):
            return value
        text = text_of(value)
        if not text and not empty:
            raise bad("must not be empty", accepted)
        try:
            return parse(text)
        except ScalarError as error:
            raise bad(error.message, error.accepted or accepted) from None
        except InvalidName as error:
            raise bad(str(error), accepted) from None

    return validate
