"""The `simulate` command's arguments; `simulating` does what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["simulate"]


def simulate(
    ctx: typer.Context,
    lasts: Annotated[
        str, typer.Option("--for", metavar="SPAN", help="How long, such as 90d or 1y.")
    ] = "1y",
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            metavar="[HOST=]FILE",
            help="Config of one host, which has the file's name unless one is given.",
            show_default=False,
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", metavar="[HOST=]FILE", help="That of another host.", show_default=False
        ),
    ] = None,
    workload: Annotated[
        list[str] | None,
        typer.Option(
            "--workload",
            metavar="SPEC",
            help="What is written: '[HOST:]DATASET writes=SIZE rewrites=PERCENT% holds=SIZE hours=8-18 days=mon-fri'; "
            "DATASET * for all others.",
            show_default=False,
        ),
    ] = None,
    outage: Annotated[
        list[str] | None,
        typer.Option(
            "--outage",
            metavar="SPEC",
            help="When a link is down, in this computer's time zone: 'link A-B [every 2 weeks] sat 00:00 for 48h' or "
            "'link A-B 2026-03-01 for 5d'.",
            show_default=False,
        ),
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option(
            "--join",
            metavar="HOST/JOB=HOST/JOB[:ID]",
            help="Which job connects to which, where the configs leave it open.",
            show_default=False,
        ),
    ] = None,
    manual_every: Annotated[
        str,
        typer.Option(
            "--manual-every",
            metavar="SPAN",
            help="Jobs with manual snapshotting get a snapshot that often.",
            show_default=False,
        ),
    ] = "",
    start: Annotated[
        str, typer.Option("--start", metavar="DATE", help="When it begins, in UTC.")
    ] = "2026-01-01",
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="The same seed gives the same run.")
    ] = 1,
    wire: Annotated[
        bool,
        typer.Option("--wire", help="With all of the protocol between the hosts; takes longer."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw it, too: .svg, .png or .pdf.",
            show_default=False,
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="Write the daemons' logs there, from level info on.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what configs will do: snapshots kept, space, how far copies fall behind.

    Runs the daemon's own jobs of all these hosts on pools in memory and a clock that jumps; touches no
    ZFS and no network. Each `connect` is led to the job that serves it among the configs.
    Hooks are not run, and transfers take no time.

    \b
    Exit status: 0 all went well; 1 something would have needed a person, or the log or plot could not
    be written; 2 an option cannot be, or a peer's config is missing; 4 a config is wrong.
    \b
    Examples:
      zrepl-trio simulate --config source.yml --peer pull.yml
      zrepl-trio simulate --config app=source.yml --peer backup=pull.yml --for 90d \\
        --outage 'link app-backup every 2 weeks sat 00:00 for 48h' --plot year.svg
      zrepl-trio simulate --config a.yml --workload 'tank/db writes=2GiB hours=8-18' --json
    """
    from zrepl_trio.cli.options import chosen_config
    from zrepl_trio.cli.simulating import SimulateArguments, simulate_command

    before = chosen_config(ctx)  # in front of the command's name
    simulate_command(
        SimulateArguments(
            configs=[*([str(before)] if before is not None else []), *(config or [])],
            peers=peer or [],
            lasts=lasts,
            start=start,
            seed=seed,
            workloads=workload or [],
            outages=outage or [],
            joins=join or [],
            manual_every=manual_every,
            wire=wire,
            as_json=json,
            plot=plot,
            log=log,
        )
    )
