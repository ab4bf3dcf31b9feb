"""Bytes of a YAML file as a tree of nodes that know their place; strict and bounded.

The dialect is go-yaml v2's, as zrepl reads it: scalars stay text as written and whether they were
plain (unquoted) is kept, because `on` is a boolean only where a boolean is wanted; anchors and
`<<` work. PyYAML's own composer recurses, takes duplicate keys silently and expands aliases
without limit, so only its event parser is used here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import yaml

from zrepl_trio.errors import ConfigErrors, Problem

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_NODES",
    "Entry",
    "MapNode",
    "Node",
    "Place",
    "PlainScalar",
    "ScalarNode",
    "SeqNode",
    "key_path",
    "plain_data",
    "read_nodes",
    "walk",
]

MAX_BYTES = 1 << 20
"""Largest file read; a config of a thousand jobs is about a third of it."""
MAX_DEPTH = 64
"""Deepest nesting; zrepl's schema needs 8."""
MAX_NODES = 100_000
"""Most nodes after all aliases are expanded, so that an alias bomb stays small."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TAG = "tag:yaml.org,2002:"
_STRING_TAGS = frozenset({"!", _TAG + "str"})
_PLAIN_TAGS = frozenset({_TAG + name for name in ("int", "bool", "float", "null")})


class PlainScalar(str):
    """Text of an unquoted scalar; a quoted one arrives as an ordinary str."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def problem(self, key: str, message: str, accepted: str = "") -> Problem:
        """A Problem at this place."""
        return Problem(
            file=self.file,
            line=self.line,
            column=self.column,
            key=key,
            message=message,
            accepted=accepted,
        )


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One scalar; `plain` when unquoted."""

    place: Place
    text: str
    plain: bool = False

    @property
    def is_null(self) -> bool:
        """Whether YAML reads it as null."""
        return self.plain and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class SeqNode:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value` of a mapping."""

    key_place: Place
    value: Node


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping in file order, merges already done."""

    place: Place
    entries: dict[str, Entry]

    def get(self, key: str) -> Node | None:
        """The value of `key`, None when absent."""
        entry = self.entries.get(key)
        return entry.value if entry else None

    def text(self, key: str) -> str | None:
        """The text of a scalar at `key`, None when absent, null or no scalar."""
        node = self.get(key)
        return node.text if isinstance(node, ScalarNode) and not node.is_null else None


Node = ScalarNode | SeqNode | MapNode


def key_path(path: Iterable[str | int]) -> str:
    """`("jobs", 0, "connect", "host")` as `jobs[0].connect.host`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif len(step) <= 80 and step.replace("_", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f"[{step[:80]!r}]"
    return text


def plain_data(node: Node) -> object:
    """The node as dict, list, PlainScalar, str and None, for pydantic."""
    match node:
        case ScalarNode(text=text, plain=plain):
            if node.is_null:
                return None
            return PlainScalar(text) if plain else text
        case SeqNode(items=items):
            return [plain_data(item) for item in items]
        case MapNode(entries=entries):
            return {key: plain_data(entry.value) for key, entry in entries.items()}


def walk(
    root: Node, path: tuple[str | int, ...], *, tagged: bool = False
) -> tuple[tuple[str | int, ...], Place]:
    """The deepest part of `path` that exists in the tree, and its place.

    A missing last key stays in the path, with the place of the mapping it lacks in. A last step
    `[key]` asks for the place of the key instead of the value. `tagged`: the path is pydantic's,
    which names the `type` of a mapping before the key in it; mind that a mapping of type grid
    has a key grid too.
    """
    node: Node = root
    place = root.place
    seen: list[str | int] = []
    of_key = path[-1:] == ("[key]",)
    steps = path[:-1] if of_key else path
    tag_due = tagged
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        if isinstance(node, MapNode) and isinstance(step, str):
            if tag_due and step == node.text("type"):
                tag_due = False
                continue
            entry = node.entries.get(step)
            if entry is not None:
                node, place = entry.value, entry.key_place
                # A block is best found by its key, a scalar by itself.
                if isinstance(node, ScalarNode) and node.text and not (last and of_key):
                    place = node.place
                seen.append(step)
                tag_due = tagged
            elif last:
                seen.append(step)
        elif isinstance(node, SeqNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            place = node.place
            seen.append(step)
            tag_due = tagged
    return tuple(seen), place


def read_nodes(data: bytes, file: str) -> tuple[Node | None, list[Problem]]:
    """The file's one document (None if empty) and the faults that leave a tree to go on with.

    Raises ConfigErrors for what leaves none: not UTF-8, not YAML, too big, too deep.
    """
    text = _decode(data, file)
    return _Composer(file).compose(text)


def _fatal(place: Place, message: str) -> ConfigErrors:
    return ConfigErrors([place.problem("", message)])


def _decode(data: bytes, file: str) -> str:
    if len(data) > MAX_BYTES:
        raise _fatal(Place(file, 1, 1), f"the file is larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise _fatal(
            Place(file, line, column), f"not UTF-8 (byte 0x{data[error.start]:02x})"
        ) from None


@dataclass(slots=True)
class _Open:
    """A collection whose end has not come yet."""

    place: Place
    is_map: bool
    anchor: str | None
    children: list[Node] = field(default_factory=list)
    weight: int = 1
    height: int = 0


def _steps(around: list[_Open]) -> Iterator[str | int]:
    """The path of what is being read, from the open collections around it."""
    for opened in around:
        if not opened.is_map:
            yield len(opened.children)
        else:  # the last child is the key, unless what is being read is a key itself
            key = opened.children[-1] if len(opened.children) % 2 else None
            yield key.text if isinstance(key, ScalarNode) else "?"


class _Composer:
    """Turns PyYAML's events into nodes with a stack of its own, so depth costs no recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.anchors: dict[str, tuple[Node, int, int] | None] = {}

    def compose(self, text: str) -> tuple[Node | None, list[Problem]]:
        root: Node | None = None
        stack: list[_Open] = []
        documents = 0
        for event in self._events(text):
            place = self._place(event)
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        raise _fatal(place, "a second document starts here; one file holds one")
                case yaml.AliasEvent():
                    root = self._attach(stack, *self._resolve(event, place)) or root
                case yaml.ScalarEvent():
                    node = self._scalar(event, place)
                    self._anchor(event.anchor, node, 1, 0)
                    root = self._attach(stack, node, 1, 0) or root
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    if len(stack) >= MAX_DEPTH:
                        raise _fatal(place, f"nested deeper than {MAX_DEPTH} levels")
                    is_map = isinstance(event, yaml.MappingStartEvent)
                    if event.tag not in (None, "!", _TAG + ("map" if is_map else "seq")):
                        self._report(place, f"unknown tag {event.tag!r}")
                    stack.append(_Open(place, is_map, event.anchor))
                    if event.anchor is not None:
                        self.anchors[event.anchor] = None
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    done = stack.pop()
                    whole: Node = self._map(done, stack) if done.is_map else _sequence(done)
                    self._anchor(done.anchor, whole, done.weight, done.height)
                    root = self._attach(stack, whole, done.weight, done.height) or root
                case _:
                    pass
        if isinstance(root, ScalarNode) and root.is_null:
            root = None
        return root, self.problems

    def _events(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            place = Place(self.file, before.count("\n") + 1, len(before) - before.rfind("\n"))
            raise _fatal(
                place, f"character U+{error.character:04X} is not allowed in YAML"
            ) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = _at(self.file, mark)
            raise _fatal(place, f"not YAML: {_say(error)}") from None
        except (ValueError, OverflowError) as error:  # e.g. \U00110000 in a quoted scalar
            raise _fatal(Place(self.file, 1, 1), f"not YAML: {error}") from None

    def _place(self, event: yaml.Event) -> Place:
        return _at(self.file, event.start_mark)

    def _report(self, place: Place, message: str) -> None:
        self.problems.append(place.problem("", message))

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> ScalarNode:
        plain = event.style is None
        if event.tag in _STRING_TAGS:
            plain = False
        elif event.tag in _PLAIN_TAGS:
            plain = True
        elif event.tag is not None:
            self._report(place, f"unknown tag {event.tag!r}")
        # "\\ud800" in double quotes passes PyYAML, but no such text can be encoded again.
        if any("\ud800" <= char <= "\udfff" for char in event.value):
            self._report(place, "the text holds half of a surrogate pair")
            return ScalarNode(place, event.value.encode("utf-8", "replace").decode(), plain)
        return ScalarNode(place, event.value, plain)

    def _anchor(self, name: str | None, node: Node, weight: int, height: int) -> None:
        if name is not None:
            self.anchors[name] = (node, weight, height)

    def _resolve(self, event: yaml.AliasEvent, place: Place) -> tuple[Node, int, int]:
        if event.anchor not in self.anchors:
            raise _fatal(
                place, f"`*{event.anchor}` names no anchor (quote a text that starts with `*`)"
            )
        found = self.anchors[event.anchor]
        if found is None:
            raise _fatal(place, f"`*{event.anchor}` stands inside its own anchor")
        return found

    def _attach(self, stack: list[_Open], node: Node, weight: int, height: int) -> Node | None:
        if not stack:
            return node
        top = stack[-1]
        top.children.append(node)
        top.weight += weight
        top.height = max(top.height, height + 1)
        if top.weight > MAX_NODES:
            raise _fatal(top.place, f"more than {MAX_NODES} values once aliases are expanded")
        if top.height > MAX_DEPTH:
            raise _fatal(
                top.place, f"nested deeper than {MAX_DEPTH} levels once aliases are expanded"
            )
        return None

    def _map(self, done: _Open, around: list[_Open]) -> MapNode:
        entries: dict[str, Entry] = {}
        merges: list[Node] = []
        pairs = iter(done.children)
        for key, value in zip(pairs, pairs, strict=True):
            if not isinstance(key, ScalarNode):
                self._report(key.place, "a key must be a scalar, not a list or mapping")
            elif key.plain and key.text == "<<":
                merges.append(value)
            elif key.is_null:
                self._report(key.place, "a key is empty")
            elif key.text in entries:
                first = entries[key.text].key_place
                self.problems.append(
                    key.place.problem(
                        key_path([*_steps(around), key.text]),
                        f"duplicate key (first in line {first.line})",
                        "each key once",
                    )
                )
            else:
                entries[key.text] = Entry(key.place, value)
        for value in merges:
            sources = value.items if isinstance(value, SeqNode) else (value,)
            for source in sources:
                if isinstance(source, MapNode):
                    for name, entry in source.entries.items():
                        entries.setdefault(name, entry)
                else:
                    self._report(source.place, "`<<` wants a mapping or a list of mappings")
        return MapNode(done.place, entries)


def _sequence(done: _Open) -> SeqNode:
    return SeqNode(done.place, tuple(done.children))


class _Mark(Protocol):
    line: int
    column: int


def _at(file: str, mark: _Mark | None) -> Place:
    return Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)


def _say(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "syntax error"
    if "'\\t'" in problem:
        return "a tab where YAML wants spaces"
    if problem == "mapping values are not allowed here":
        return "a `key:` is not allowed here (indentation, or a text with `: ` that needs quotes)"
    if error.context == "while scanning an alias":
        return "a text that starts with `*` needs quotes (bare, it would be an alias)"
    context = f" {error.context}" if error.context else ""
    return problem + context
