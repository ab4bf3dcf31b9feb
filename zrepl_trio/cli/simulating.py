"""`zrepl-trio simulate`: what these configs will do, in minutes instead of months."""

from __future__ import annotations

import gc
import importlib.util
import json as json_module
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import typer

from zrepl_trio.cli.exitcodes import ExitCode, UsageRefused
from zrepl_trio.cli.simulateview import report_lines
from zrepl_trio.clock import local_zone
from zrepl_trio.config.load import load_config
from zrepl_trio.errors import Refused
from zrepl_trio.simulate.hosts import load_hosts
from zrepl_trio.simulate.joining import join_all, parse_join
from zrepl_trio.simulate.outages import parse_outage
from zrepl_trio.simulate.report import SimulationReport
from zrepl_trio.simulate.simulation import Setup, simulate
from zrepl_trio.simulate.spans import parse_span
from zrepl_trio.simulate.workload import parse_workload

__all__ = ["SimulateArguments", "simulate_command"]

FORMATS = (".svg", ".png", ".pdf")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateArguments:
    """The command line's words, as they are."""

    config: str | None
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
    """Simulate, print or draw what came of it; status 1 when a person would have been needed."""
    _check_plot(arguments.plot)
    with ExitStack() as stack:
        log = stack.enter_context(_opened(arguments.log)) if arguments.log else None
        setup = _setup(arguments, log, stack.enter_context(_progress(sys.stderr)))
        # years of values that live on, and are in no cycle
        gc.set_threshold(100_000, 50, 100)
        report = simulate(setup)
    if arguments.plot is not None:
        from zrepl_trio.simulate.plot import plot

        try:
            plot(report, arguments.plot)
        except OSError as error:
            raise Refused(f"--plot {arguments.plot}: {error.strerror}") from None
    _print(report, arguments)
    raise typer.Exit(ExitCode.FAILED if report.needs_a_person else ExitCode.DONE)


def _print(report: SimulationReport, arguments: SimulateArguments) -> None:
    if arguments.as_json:
        json_module.dump(report.to_json(), sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    for line in report_lines(report):
        print(line)
    if arguments.plot is not None:
        print(f"\nThe plot is in {arguments.plot}")


def _setup(
    arguments: SimulateArguments, log: TextIO | None, progress: Callable[[float], None]
) -> Setup:
    manual_every_s = (
        parse_span(arguments.manual_every, "--manual-every") if arguments.manual_every else None
    )
    config = arguments.config or str(load_config(None).path)
    hosts = load_hosts([config, *arguments.peers], manual_every_s=manual_every_s)
    return Setup(
        hosts=hosts,
        joins=join_all(hosts, [parse_join(text) for text in arguments.joins]),
        start=_start(arguments.start),
        lasts_s=parse_span(arguments.lasts, "--for"),
        zone=local_zone(),
        seed=arguments.seed,
        wire=arguments.wire,
        workloads=[parse_workload(text) for text in arguments.workloads],
        outages=[parse_outage(text, [host.name for host in hosts]) for text in arguments.outages],
        log=log,
        progress=progress,
    )


def _start(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageRefused(f"--start {text!r} is no date such as 2026-01-01") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _check_plot(path: Path | None) -> None:
    """Before the minutes that a simulation takes."""
    if path is None:
        return
    if path.suffix not in FORMATS:
        raise UsageRefused(f"--plot {path}: the name must end in one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageRefused(f"--plot {path}: there is no directory {path.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageRefused(
            "--plot needs matplotlib, which is not installed: "
            f"{sys.executable} -m pip install matplotlib; without --plot the same is shown as a table"
        )


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageRefused(f"--log {path}: {error.strerror}") from None
    with file:
        yield file


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
