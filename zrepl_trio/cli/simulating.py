"""`zrepl-trio simulate`: what these configs will do, in minutes instead of months."""

from __future__ import annotations

import gc
import json as json_module
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import typer

from zrepl_trio.cli.exitcodes import ExitCode, UsageRefused
from zrepl_trio.cli.simulateview import report_lines
from zrepl_trio.clock import local_zone
from zrepl_trio.config.load import load_config
from zrepl_trio.errors import Refused
from zrepl_trio.simulate.datasets import initial_datasets
from zrepl_trio.simulate.hosts import load_hosts
from zrepl_trio.simulate.idle import idle_outages, idle_workloads
from zrepl_trio.simulate.joining import join_all, parse_join
from zrepl_trio.simulate.outages import check_links, parse_outage
from zrepl_trio.simulate.report import SimulationReport
from zrepl_trio.simulate.simulation import Setup, simulate
from zrepl_trio.simulate.spans import parse_span
from zrepl_trio.simulate.workload import parse_workload

__all__ = ["SimulateArguments", "simulate_command"]

FORMATS = (".svg", ".png", ".pdf")

YEARS = range(1971, 2901)
"""In which a simulation may begin: ZFS has no times before 1970, and Python none after 9999."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateArguments:
    """The command line's words, as they are."""

    configs: Sequence[str]
    peers: Sequence[str]
    lasts: str
    start: str
    seed: int
    workloads: Sequence[str]
    outages: Sequence[str]
    joins: Sequence[str]
    manual_every: str
    wire: bool
    as_json: bool
    plot: Path | None
    log: Path | None


def simulate_command(arguments: SimulateArguments) -> None:
    """Simulate, print or draw what came of it; status 1 when a person would have been needed. Nothing is
    written before all that can be refused is."""
    setup = _setup(arguments)
    _check_outputs(arguments, [file for host in setup.hosts for file in host.files])
    draw = _drawing(arguments.plot)
    with ExitStack() as stack:
        log = stack.enter_context(_opened(arguments.log)) if arguments.log else None
        progress = stack.enter_context(_progress(sys.stderr))
        # years of values that live on, and are in no cycle
        gc.set_threshold(100_000, 50, 100)
        report = simulate(replace(setup, log=log, progress=progress))
    _print(report, arguments)
    if arguments.plot is not None:
        try:
            draw(report, arguments.plot)
        except OSError as error:
            raise Refused(f"--plot {arguments.plot}: {error.strerror}; nothing was drawn") from None
        if not arguments.as_json:
            print(f"\nThe plot is in {arguments.plot}")
    if log is not None and log.failed is not None:
        raise Refused(f"--log {arguments.log}: {log.failed.strerror}; the log is not whole")
    raise typer.Exit(ExitCode.FAILED if report.needs_a_person else ExitCode.DONE)


def _print(report: SimulationReport, arguments: SimulateArguments) -> None:
    if arguments.as_json:
        json_module.dump(report.to_json(), sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    for line in report_lines(report):
        print(line)
    sys.stdout.flush()


def _setup(arguments: SimulateArguments) -> Setup:
    """All that is simulated; raises what `load_config` does, and UsageRefused for what cannot be."""
    manual_every_s = (
        parse_span(arguments.manual_every, "--manual-every") if arguments.manual_every else None
    )
    if len(arguments.configs) > 1:
        raise UsageRefused(
            f"--config is given {len(arguments.configs)} times; it is for one host, and those of the others go with --peer"
        )
    configs = arguments.configs or [str(load_config(None).path)]
    hosts = load_hosts([*configs, *arguments.peers], manual_every_s=manual_every_s)
    setup = Setup(
        hosts=hosts,
        joins=join_all(hosts, [parse_join(text) for text in arguments.joins]),
        start=_start(arguments.start),
        lasts_s=parse_span(arguments.lasts, "--for"),
        zone=local_zone(),
        seed=arguments.seed,
        wire=arguments.wire,
        workloads=[parse_workload(text) for text in arguments.workloads],
        outages=[parse_outage(text, [host.name for host in hosts]) for text in arguments.outages],
    )
    check_links(setup.outages, {join.hosts for join in setup.joins})
    notes = [
        *idle_outages(setup.outages, setup.start, setup.lasts_s, setup.zone),
        *idle_workloads(setup.workloads, initial_datasets(hosts, setup.workloads)),
    ]
    if manual_every_s is not None and not any(host.manual for host in hosts):
        notes.append("--manual-every is of no effect: no job has manual snapshotting")
    return replace(setup, notes=notes)


def _start(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageRefused(f"--start {text!r} is no date such as 2026-01-01") from None
    if found.year not in YEARS:
        raise UsageRefused(f"--start {text!r} is not in the years {YEARS[0]} to {YEARS[-1]}")
    return found


def _check_outputs(arguments: SimulateArguments, configs: Iterable[str]) -> None:
    """Before the minutes that a simulation takes: each can be written, and is nothing that is read."""
    given = {"--plot": arguments.plot, "--log": arguments.log}
    taken = [Path(config) for config in configs]
    for option, path in given.items():
        if path is None:
            continue
        if option == "--plot" and path.suffix.lower() not in FORMATS:
            raise UsageRefused(f"{option} {path}: the name must end in one of {', '.join(FORMATS)}")
        if path.is_dir():
            raise UsageRefused(f"{option} {path}: that is a directory; give it a file")
        if not path.parent.is_dir():
            raise UsageRefused(f"{option} {path}: there is no directory {path.parent}")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UsageRefused(f"{option} {path}: it may not be written by this user")
        if any(_same_file(path, other) for other in taken):
            raise UsageRefused(
                f"{option} {path}: that is read or written otherwise; give it another file"
            )
        taken.append(path)


def _same_file(one: Path, other: Path) -> bool:
    """Whether writing to one would change the other, by whatever name."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _drawing(path: Path | None) -> Callable[[SimulationReport, Path], None]:
    """What draws, imported before the minutes that a simulation takes; UsageRefused without its library."""
    if path is None:
        return lambda _report, _path: None
    # matplotlib reads it for windows, which are not wanted here, and fails at one that it does not know
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        from zrepl_trio.simulate.plot import plot
    except ImportError as error:
        raise UsageRefused(
            f"--plot needs matplotlib, which cannot be imported ({error}): "
            f"{sys.executable} -m pip install matplotlib; without --plot the same is shown as a table"
        ) from None
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return plot


class _Log:
    """The file of --log. A failed write, as on a full disk, is kept for the end: it is no reason to lose
    what is simulated."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.failed: OSError | None = None

    def write(self, text: str, /) -> None:
        if self.failed is None:
            try:
                self._file.write(text)
            except OSError as error:
                self.failed = error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.failed = self.failed or error


@contextmanager
def _opened(path: Path) -> Iterator[_Log]:
    try:
        log = _Log(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise UsageRefused(f"--log {path}: {error.strerror}") from None
    try:
        yield log
    finally:
        log.close()


@contextmanager
def _progress(stream: TextIO) -> Iterator[Callable[[float], None]]:
    """Where a person looks on, how far it is; nothing of it stays."""
    if not stream.isatty():
        yield lambda _share: None
        return
    try:
        yield lambda share: print(f"\r{share:4.0%}", end="", file=stream, flush=True)
    finally:
        print("\r\x1b[K", end="", file=stream, flush=True)
