"""From a path to a checked config: find the file, read its includes, collect every fault.

`load_config` is the only function that other packages need. Nothing here imports trio.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from zrepl_trio.config.advice import advice_on
from zrepl_trio.config.checks import cross_problems
from zrepl_trio.config.explain import Loc, problems_of
from zrepl_trio.config.jobs import Job
from zrepl_trio.config.legacy import translate
from zrepl_trio.config.legacy_job import Outcome
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.model import Config
from zrepl_trio.config.nodes import (
    MAX_BYTES,
    MapNode,
    Node,
    Place,
    ScalarNode,
    SeqNode,
    key_path,
    plain_data,
    read_nodes,
)
from zrepl_trio.config.notes import Note
from zrepl_trio.errors import ConfigErrors, Problem

__all__ = ["DEFAULT_PATHS", "LoadedConfig", "load_config", "parse_config"]

DEFAULT_PATHS = (Path("/etc/zrepl/zrepl.yml"), Path("/usr/local/etc/zrepl/zrepl.yml"))
"""Where zrepl looks, in this order; the first that exists counts."""

_JOB: TypeAdapter[Job] = TypeAdapter(Job)


def load_config(path: Path | None = None) -> LoadedConfig:
    """The config at `path`, or at the first of DEFAULT_PATHS that exists.

    Raises ConfigErrors with every fault found, its file, line, column and key.
    """
    return _Loader(path if path is not None else _find()).load()


def parse_config(text: str, path: Path = Path("zrepl.yml")) -> LoadedConfig:
    """The config in `text`, as if it were the file at `path`; includes are read from there."""
    return _Loader(path).load(text.encode())


def _find() -> Path:
    for path in DEFAULT_PATHS:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            raise _cannot(path, "exists, but is not a regular file")
        return path
    others = " or ".join(map(str, DEFAULT_PATHS[1:]))
    raise _cannot(
        DEFAULT_PATHS[0], f"there is no config here, nor at {others}; name one with --config FILE"
    )


def _cannot(path: Path, message: str) -> ConfigErrors:
    return ConfigErrors([Problem(file=str(path), line=0, column=0, key="", message=message)])


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _cannot(path, f"cannot read it: {error.strerror or error}") from None
    except ValueError:  # a NUL in the path
        raise _cannot(path, "is no path") from None


class _Loader:
    """Collects jobs, notes and problems over the main file and its includes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jobs: list[Job] = []
        self.nodes: dict[Loc, Node] = {}
        self.names: list[tuple[str, Loc, Place]] = []
        self.problems: list[Problem] = []
        self.notes: list[Note] = []
        # Of the file being read: each job's index in it, and what came of its forms of 0.0.x.
        self.origins: tuple[int, ...] = ()
        self.translation = Outcome()

    def load(self, data: bytes | None = None) -> LoadedConfig:
        root = self._file(self.path, _read(self.path) if data is None else data)
        config = Config()
        if root is not None:
            self._jobs(root)
            config = self._top(root, included=False)
            for path, place in self._includes(root):
                self._include(path, place)
        self._unique_names()
        config = config.model_copy(update={"jobs": tuple(self.jobs)})
        loaded = LoadedConfig(config, self.path, tuple(self.notes), self.nodes)
        if not self.problems:
            self.problems += [loaded.problem(loc, text) for loc, text in cross_problems(config)]
        if self.problems:
            raise ConfigErrors(self._in_order(self.problems))
        advice = [loaded.note(loc, text) for loc, text in advice_on(config)]
        return replace(loaded, notes=(*self.notes, *advice))

    def _in_order(self, problems: Sequence[Problem]) -> list[Problem]:
        files = [str(self.path)]
        files += [problem.file for problem in problems if problem.file not in files]
        return sorted(set(problems), key=lambda p: (files.index(p.file), p.line, p.column, p.key))

    def _file(self, path: Path, data: bytes) -> MapNode | None:
        root, problems = read_nodes(data, str(path))
        self.problems += problems
        if root is None:
            return None
        if not isinstance(root, MapNode):
            self.problems.append(
                root.place.problem("", "the file must hold a mapping", "jobs, global, include")
            )
            return None
        today, self.origins, self.translation = translate(root)
        self.problems += self.translation.problems
        self.notes += self.translation.notes
        return today

    def _top(self, root: MapNode, *, included: bool) -> Config:
        """Checks all but the jobs, which have been checked one by one."""
        entries = {key: entry for key, entry in root.entries.items() if key != "jobs"}
        try:
            config = Config.model_validate(plain_data(MapNode(root.place, entries)))
        except ValidationError as error:
            self.problems += problems_of(error, root)
            return Config()
        if not included:
            for key, entry in entries.items():
                self.nodes[(key,)] = entry.value
        return config

    def _jobs(self, root: MapNode) -> None:
        node = root.get("jobs")
        if node is None or (isinstance(node, ScalarNode) and node.is_null):
            return
        if not isinstance(node, SeqNode):
            self.problems.append(node.place.problem("jobs", "must be a list", "`- item` lines"))
            return
        for index, item in zip(self.origins, node.items, strict=True):
            if isinstance(item, MapNode) and (name := item.text("name")) is not None:
                self.names.append((name, ("jobs", index, "name"), item.entries["name"].value.place))
            try:
                job = _JOB.validate_python(plain_data(item))
            except ValidationError as error:
                found = problems_of(error, item, ("jobs", index))
                self.problems += self.translation.remaining(("jobs", index), found)
            else:
                self.nodes["jobs", len(self.jobs)] = item
                self.jobs.append(job)

    def _unique_names(self) -> None:
        first: dict[str, Place] = {}
        for name, loc, place in self.names:
            if name in first:
                there = first[name]
                self.problems.append(
                    place.problem(
                        key_path(loc),
                        f"a job {name!r} exists already ({there.file}:{there.line})",
                        "a name that no other job has",
                    )
                )
            else:
                first[name] = place

    def _includes(self, root: MapNode) -> list[tuple[Path, Place]]:
        node = root.get("include")
        if not isinstance(node, SeqNode):
            return []
        return [
            (Path(item.text), item.place)
            for item in node.items
            if isinstance(item, ScalarNode) and item.text and not item.is_null
        ]

    def _include(self, entry: Path, place: Place) -> None:
        # As zrepl's documentation has it: relative to this file. Its code looks at whether the
        # main file's own path is absolute, and so reads relative entries from the daemon's
        # working directory.
        path = self.path.parent / entry
        if not entry.is_absolute() and self.path.is_absolute():
            self.notes.append(
                Note(
                    file=place.file,
                    line=place.line,
                    column=place.column,
                    key="include",
                    message=f"read as {path}, relative to this file as zrepl documents; zrepl "
                    "0.7 itself takes it from its working directory",
                )
            )
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                files = sorted(path / name for name in os.listdir(path) if _is_yml(name))
            elif stat.S_ISREG(mode) and path.name.endswith(".yml"):
                files = [path]
            else:
                what = "does not end in .yml" if stat.S_ISREG(mode) else "is no regular file"
                self.problems.append(
                    place.problem("include", f"{path} {what}", "a .yml file or a directory of them")
                )
                return
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no path"
            self.problems.append(place.problem("include", f"cannot read {path}: {reason}"))
            return
        for file in files:
            self._included_file(file)

    def _included_file(self, path: Path) -> None:
        try:
            root = self._file(path, _read(path))
        except ConfigErrors as errors:
            self.problems += errors.problems
            return
        if root is None:
            return
        self._top(root, included=True)
        self._jobs(root)
        for key, entry in root.entries.items():
            where = entry.key_place
            if key == "include":
                self.problems.append(where.problem(key, "an included file cannot include others"))
            elif key == "global":
                self.notes.append(
                    Note(
                        file=where.file,
                        line=where.line,
                        column=where.column,
                        key=key,
                        message="has no effect in an included file (nor has it in zrepl); "
                        "only the main file's counts",
                    )
                )


def _is_yml(name: str) -> bool:
    return name.endswith(".yml") and not name.startswith(".")
