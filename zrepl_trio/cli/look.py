"""The arguments of `plan` and `explain`; `cli.plan` and `cli.pruneplan` do what they say."""

from __future__ import annotations

from typing import Annotated

import typer

from zrepl_trio.cli.options import DestroyForeignOption, ResolveOption, chosen_config

__all__ = ["explain", "plan"]


def plan(
    ctx: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Only these jobs.", show_default=False),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Show what pruning would destroy, snap jobs included.")
    ] = False,
    resolve: ResolveOption = None,
    destroy_foreign: DestroyForeignOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print it for programs.")] = False,
) -> None:
    """Show what the active jobs would do now, and do nothing.

    For each filesystem: the steps with their sizes, what is resumed, which placeholders are made,
    which holds and cursors move; or why it cannot be replicated, with the ways out and what each
    would destroy. It asks the peer and this host's ZFS, changes nothing on either side, and needs
    no daemon here. Status 1 when some filesystem cannot be replicated.

    With --prune: each snapshot, whether it would go were the jobs' pruning to run now, by which rule it stays,
    and what is freed. Of a push whose receiver cannot be reached, the sender's are shown; the status is 3.

    \b
    Examples:
      zrepl-trio plan
      zrepl-trio plan --prune snap_system
      zrepl-trio plan pull_app-srv
      zrepl-trio plan --json | jq '.jobs[].filesystems[] | select(.problem != "")'
    """
    from zrepl_trio.cli.exitcodes import UsageRefused

    if prune:
        from zrepl_trio.cli.pruneplan import prune_plan_command

        if resolve:
            raise UsageRefused("plan: --resolve says nothing of pruning")
        prune_plan_command(
            chosen_config(ctx),
            jobs=jobs or [],
            as_json=json,
            destroy_foreign=destroy_foreign,
        )
    if destroy_foreign:
        raise UsageRefused("plan: --destroy-foreign goes with --prune")
    from zrepl_trio.cli.plan import plan_command

    plan_command(chosen_config(ctx), jobs=jobs or [], as_json=json, resolve=resolve or [])


def explain(
    ctx: typer.Context,
    snapshot: Annotated[
        str,
        typer.Argument(metavar="DATASET@SNAP", help="A snapshot of this host.", show_default=False),
    ],
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Ask only these jobs.", show_default=False),
    ] = None,
) -> None:
    """Tell what each job's pruning would do now to a snapshot of this host, and by which rule.

    Peers are asked, as by `plan --prune`; nothing is changed.

    \b
    Examples:
      zrepl-trio explain tank/data@zrepl_20260514_211500_000
      zrepl-trio explain storage/backups/tank/data@before-upgrade pull_app-srv
    """
    from zrepl_trio.cli.pruneplan import explain_command

    explain_command(chosen_config(ctx), snapshot=snapshot, jobs=jobs or [])
