"""The types of config fields: how each is read, printed and described to editors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, core_schema

from zrepl_trio.config import scalars
from zrepl_trio.config.addresses import (
    HOSTPORT_WORDS,
    HostPort,
    check_client_identity,
    check_identity_file,
    check_server_name,
    check_ssh_command,
    check_ssh_host,
    check_ssh_user,
)
from zrepl_trio.config.base import BOOL_WORDS, Reads, bad, bool_of, int_of, parsed, text_of
from zrepl_trio.config.cron import CRON_WORDS, CronSpec, load_zone
from zrepl_trio.config.grid import GRID_WORDS, RetentionGrid
from zrepl_trio.config.regex import REGEX_WORDS, Regex
from zrepl_trio.config.scalars import ScalarError
from zrepl_trio.zfs.filter import FilesystemFilter, check_pattern
from zrepl_trio.zfs.names import DatasetPath, check_component
from zrepl_trio.zfs.targets import BadTarget, TargetRules, check_target

__all__ = [
    "Amount",
    "Bits",
    "ClientIdentity",
    "Count",
    "Cron",
    "Filesystems",
    "Flag",
    "Grid",
    "IdentityFile",
    "Interval",
    "JobName",
    "ListenAddress",
    "Path",
    "Port",
    "PropertyName",
    "PullInterval",
    "RequiredRegex",
    "RequiredText",
    "RootFilesystem",
    "SearchRegex",
    "ServerName",
    "SshCommand",
    "SshHost",
    "SshOption",
    "SshUser",
    "Targets",
    "Text",
    "TimeZone",
    "nonempty",
    "null_is_empty_list",
    "null_is_empty_map",
]

T = TypeVar("T")

MAX_JOB_NAME = 203
"""zrepl's bound: `pool/ds` and the longest name derived from the job must fit in 255 bytes."""

_PROPERTY = re.compile(r"[0-9A-Za-z_.:][0-9A-Za-z_.:-]{0,255}", re.ASCII)
_STRING: dict[str, Any] = {"type": "string"}
_NONEMPTY: dict[str, Any] = {"type": "string", "minLength": 1}


def _described(text: str, **more: object) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": text, **more}


def nonempty(value: T) -> T:
    """For AfterValidator: required lists, maps and texts must hold something."""
    if not value:
        raise bad("must not be empty")
    return value


def null_is_empty_list(value: object) -> object:
    """For BeforeValidator: null is the empty list."""
    return () if value is None else value


def null_is_empty_map(value: object) -> object:
    """For BeforeValidator: null is the empty map."""
    return {} if value is None else value


# Texts

Text = Annotated[str, Reads(text_of, str, _STRING)]
"""Any one-line text, possibly empty."""
RequiredText = Annotated[str, Reads(parsed(str, str), str, _NONEMPTY)]
"""A one-line text that is not empty."""
Path = RequiredText
"""A file's path."""


# Numbers and flags

_BOOL_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "boolean"},
        # An editor that reads YAML 1.2 sees the words of YAML 1.1 as texts.
        {
            "enum": [
                "y",
                "Y",
                "yes",
                "Yes",
                "YES",
                "on",
                "On",
                "ON",
                "n",
                "N",
                "no",
                "No",
                "NO",
                "off",
                "Off",
                "OFF",
            ]
        },
    ],
    "description": BOOL_WORDS,
}
Flag = Annotated[bool, Reads(bool_of, bool, _BOOL_SCHEMA)]


def _bounded(low: int, high: int, accepted: str) -> Callable[[object], int]:
    def validate(value: object) -> int:
        number = int_of(value)
        if not low <= number <= high:
            raise bad(f"{number} is out of range", accepted)
        return number

    return validate


def _int_schema(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


_MAX_INT = 2**31 - 1
Count = Annotated[
    int, Reads(_bounded(1, _MAX_INT, "an integer from 1"), int, _int_schema(1, _MAX_INT))
]
Amount = Annotated[
    int, Reads(_bounded(0, _MAX_INT, "an integer from 0"), int, _int_schema(0, _MAX_INT))
]
Port = Annotated[int, Reads(_bounded(1, 65535, "1 to 65535"), int, _int_schema(1, 65535))]


# Times and sizes

Interval = Annotated[
    float,
    Reads(
        parsed(lambda text: _positive(scalars.parse_duration(text)), float, scalars.DURATION_WORDS),
        scalars.format_duration,
        _described(scalars.DURATION_WORDS, pattern=r"^\s*\+?[0-9]+\s*[smhdw]\s*$"),
    ),
]
"""Seconds, more than 0, in zrepl's own grammar (`10m`)."""


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ScalarError("must be more than 0")
    return seconds


def _pull_interval(value: object) -> float | None:
    # None comes from YAML as null only: in code, the absent interval is written `manual` too.
    if isinstance(value, str) and value == "manual":
        return None
    return parsed(
        lambda text: _positive(scalars.parse_duration(text)),
        float,
        f"manual, or {scalars.DURATION_WORDS}",
    )(value)


PullInterval = Annotated[
    float | None,
    Reads(
        _pull_interval,
        lambda seconds: "manual" if seconds is None else scalars.format_duration(seconds),
        _described(
            f"manual, or {scalars.DURATION_WORDS}", pattern=r"^(manual|\s*\+?[0-9]+\s*[smhdw]\s*)$"
        ),
    ),
]
"""Seconds between pulls, None for `manual`."""


Bits = Annotated[
    float,
    Reads(
        parsed(scalars.parse_size, float, scalars.SIZE_WORDS),
        scalars.format_size,
        _described(scalars.SIZE_WORDS, pattern=r"^-?[0-9.]+\s*(bit|(K|Ki|M|Mi|G|Gi|T|Ti)?[bB])$"),
    ),
]
"""A size in bits (a float), written with its unit."""

Grid = Annotated[
    RetentionGrid,
    Reads(parsed(RetentionGrid.parse, RetentionGrid, GRID_WORDS), str, _described(GRID_WORDS)),
]
Cron = Annotated[
    CronSpec, Reads(parsed(CronSpec.parse, CronSpec, CRON_WORDS), str, _described(CRON_WORDS))
]
RequiredRegex = Annotated[
    Regex, Reads(parsed(Regex.parse, Regex, REGEX_WORDS), str, _described(REGEX_WORDS))
]
SearchRegex = Annotated[
    Regex,
    Reads(
        parsed(Regex.parse, Regex, REGEX_WORDS, empty=True),
        str,
        {"type": "string", "description": REGEX_WORDS},
    ),
]
"""A regex that may be empty and then matches everything."""


def _zone(text: str) -> str:
    load_zone(text)
    return text


TimeZone = Annotated[
    str,
    Reads(
        parsed(_zone, str, "UTC, Local or an IANA name"),
        str,
        {"type": "string", "description": "UTC, Local or an IANA name"},
    ),
]
"""The name of a zone that this system knows, for `load_zone`."""


# Names

ROOT_WORDS = "a dataset path such as backup/hosts"
RootFilesystem = Annotated[
    DatasetPath,
    Reads(parsed(DatasetPath.parse, DatasetPath, ROOT_WORDS), str, _described(ROOT_WORDS)),
]


def _job_name(text: str) -> str:
    if text.startswith("_"):
        raise ScalarError("a name that starts with `_` is reserved for internal jobs")
    if len(text) > MAX_JOB_NAME:
        raise ScalarError(
            f"is {len(text)} characters long, too long for the bookmarks and holds named after it",
            f"at most {MAX_JOB_NAME}",
        )
    return check_component(text, "job name")


JOB_NAME_WORDS = f"1 to {MAX_JOB_NAME} of 0-9 A-Z a-z - _ . : and space, not `.` or `..`"
JobName = Annotated[
    str,
    Reads(
        parsed(_job_name, str, JOB_NAME_WORDS),
        str,
        _described(JOB_NAME_WORDS, pattern="^[-.: 0-9A-Za-z][-_.: 0-9A-Za-z]*$", maxLength=203),
    ),
]
ClientIdentity = Annotated[
    str,
    Reads(
        parsed(check_client_identity, str),
        str,
        _described("one dataset component", pattern="^[-_.: 0-9A-Za-z]{1,255}$"),
    ),
]


def _property(text: str) -> str:
    if not _PROPERTY.fullmatch(text):
        raise ScalarError(f"{text!r} is not a ZFS property name")
    return text


PROPERTY_WORDS = "1 to 256 of 0-9 A-Z a-z - _ . : not starting with `-`"
PropertyName = Annotated[
    str,
    Reads(
        parsed(_property, str, PROPERTY_WORDS),
        str,
        _described("a ZFS property name", pattern=f"^{_PROPERTY.pattern}$"),
    ),
]

_FilterPattern = Annotated[
    str,
    Reads(parsed(check_pattern, str, "DATASET, DATASET< for a subtree, < for all"), str, _NONEMPTY),
]


TARGET_WORDS = "a path below the root, or empty for the root itself"
_Target = Annotated[
    str,
    Reads(
        parsed(check_target, str, TARGET_WORDS, empty=True),
        str,
        {"type": "string", "description": TARGET_WORDS},
    ),
]


class _PatternEntries:
    """Reads a map of patterns entry by entry, so that each fault is reported at its own key."""

    def __init__(
        self, kind: type[FilesystemFilter | TargetRules], entries: object, example: str
    ) -> None:
        self._kind = kind
        self._entries = entries
        self._example = example

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        entries = handler.generate_schema(self._entries)

        def validate(value: object, read: core_schema.ValidatorFunctionWrapHandler) -> object:
            if isinstance(value, self._kind):
                return value
            if not value and isinstance(value, dict | None):
                raise bad("must not be empty", f"patterns such as `{self._example}`")
            try:
                return self._kind.of(read(value))
            except BadTarget as error:
                problem = InitErrorDetails(type=bad(str(error)), loc=(error.pattern,), input=value)
                raise ValidationError.from_exception_data("target", [problem]) from None

        return core_schema.no_info_wrap_validator_function(
            validate,
            entries,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: dict(value.entries)
            ),
        )


Filesystems = Annotated[
    FilesystemFilter,
    _PatternEntries(FilesystemFilter, dict[_FilterPattern, Flag], '"tank/data<": true'),
]
"""Pattern → true or false; see `zfs.filter`."""
Targets = Annotated[
    TargetRules, _PatternEntries(TargetRules, dict[_FilterPattern, _Target], '"tank/data<": data')
]
"""Pattern → place below the root; see `zfs.targets`."""


# Addresses

ListenAddress = Annotated[
    HostPort,
    Reads(
        parsed(HostPort.parse, HostPort, HOSTPORT_WORDS),
        str,
        _described(HOSTPORT_WORDS, pattern=":"),
    ),
]
IdentityFile = Annotated[str, Reads(parsed(check_identity_file, str), str, _NONEMPTY)]
SshHost = Annotated[str, Reads(parsed(check_ssh_host, str), str, _described("host name"))]
ServerName = Annotated[str, Reads(parsed(check_server_name, str), str, _described("host name"))]
SshUser = Annotated[str, Reads(parsed(check_ssh_user, str), str, _described("user name"))]
SshCommand = Annotated[
    str, Reads(parsed(check_ssh_command, str, empty=True), str, {"type": "string"})
]
SshOption = Annotated[
    str,
    Reads(
        parsed(str, str, "an option as behind ssh's -o, such as Compression=yes"), str, _NONEMPTY
    ),
]
