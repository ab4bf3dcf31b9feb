"""The groups of commands that look after what is on disk; what they do is imported when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zrepl_trio.cli.errors import Commands
from zrepl_trio.cli.options import chosen_config
from zrepl_trio.cli.plainhelp import Cli

__all__ = ["gencompletion", "migrate", "test", "zfs_abstraction"]


def _group(help_: str) -> Cli:
    return Cli(cls=Commands, help=help_, no_args_is_help=True, rich_markup_mode=None)


zfs_abstraction = _group(
    "List, or release, the holds and bookmarks that zrepl and zrepl-trio keep on this host."
)
create = _group("Make a hold as replication does, to try things out.")
migrate = _group("Bring what zrepl's older versions left on disk to today's form.")
test = _group("Try a job's filter, look for placeholders, read a resume token.")
gencompletion = _group("Write a script that completes our command line in a shell.")
zfs_abstraction.add_typer(create, name="create", short_help="Make a step hold, to try things out.")

FsOption = Annotated[
    str | None,
    typer.Option(
        "--fs",
        metavar="FS|PATTERN:ok|!,...",
        help="Only on this filesystem, or on those that the patterns let in (default: all).",
        show_default=False,
    ),
]
JobOption = Annotated[
    str | None,
    typer.Option(
        "--job", metavar="JOB", help="Only this job's (default: all).", show_default=False
    ),
]
TypeOption = Annotated[
    str | None,
    typer.Option(
        "--type",
        metavar="TYPE,...",
        help=(
            "Only of these types (default: all): step-hold, last-received-hold, "
            "replication-cursor-bookmark-v1, replication-cursor-bookmark-v2, "
            "tentative-replication-cursor-bookmark-v2."
        ),
        show_default=False,
    ),
]
ConcurrencyOption = Annotated[
    int,
    typer.Option("--concurrency", "-p", metavar="N", min=1, help="Filesystems asked at once."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@zfs_abstraction.command("list", short_help="List holds and bookmarks.")
def list_(
    fs: FsOption = None,
    job: JobOption = None,
    type_: TypeOption = None,
    concurrency: ConcurrencyOption = 1,
    json: JsonOption = False,
) -> None:
    """List the holds and bookmarks of zrepl and zrepl-trio, one a line.

    Exit status 1 when some filesystem could not be listed; it is named on stderr.

    \b
    Examples:
      zrepl-trio zfs-abstraction list
      zrepl-trio zfs-abstraction list --fs tank/data --type step-hold
      zrepl-trio zfs-abstraction list --fs 'tank<:ok,tank/scratch<:!' --json
    """
    from zrepl_trio.cli.localzfs import with_zfs
    from zrepl_trio.cli.zfs_abstraction import list_all, selection_of

    chosen = selection_of(fs, job, type_)
    raise typer.Exit(
        with_zfs(lambda zfs: list_all(zfs, chosen, concurrency=concurrency, as_json=json))
    )


@zfs_abstraction.command(short_help="Release what nothing needs any more.")
def release_stale(
    fs: FsOption = None,
    job: JobOption = None,
    type_: TypeOption = None,
    concurrency: ConcurrencyOption = 1,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Release the holds and bookmarks that no replication needs any more.

    Of each job on each filesystem stay the newest cursor, the newest last-received hold, and the
    step holds of an unfinished step. When some filesystem cannot be listed nothing is released.

    \b
    Examples:
      zrepl-trio zfs-abstraction release-stale --dry-run
      zrepl-trio zfs-abstraction release-stale --fs tank/data --job push_to_backup
    """
    from zrepl_trio.cli import zfs_abstraction as does
    from zrepl_trio.cli.localzfs import with_zfs

    chosen = does.selection_of(fs, job, type_)
    raise typer.Exit(
        with_zfs(
            lambda zfs: does.release_stale(
                zfs, chosen, concurrency=concurrency, as_json=json, dry_run=dry_run
            )
        )
    )


@zfs_abstraction.command(short_help="Release everything; for saying goodbye.")
def release_all(
    fs: FsOption = None,
    job: JobOption = None,
    type_: TypeOption = None,
    concurrency: ConcurrencyOption = 1,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Release ALL the holds and bookmarks that are meant, also those in use.

    For a job or a filesystem that is replicated no longer. A job that goes on loses the base of
    its next increment, if pruning then takes the snapshot. Stop the daemon first.

    \b
    Examples:
      zrepl-trio zfs-abstraction release-all --job old_job --dry-run
      zrepl-trio zfs-abstraction release-all --fs tank/retired
    """
    from zrepl_trio.cli import zfs_abstraction as does
    from zrepl_trio.cli.localzfs import with_zfs

    chosen = does.selection_of(fs, job, type_)
    raise typer.Exit(
        with_zfs(
            lambda zfs: does.release_all(
                zfs, chosen, concurrency=concurrency, as_json=json, dry_run=dry_run
            )
        )
    )


@create.command(short_help="Put a job's step hold on a snapshot.")
def step(
    target: Annotated[
        str,
        typer.Option(
            "--target", "-t", metavar="FS@SNAP", help="Snapshot to hold.", show_default=False
        ),
    ],
    jobid: Annotated[
        str,
        typer.Option("--jobid", "-j", metavar="JOB", help="Job it counts for.", show_default=False),
    ],
) -> None:
    """Put JOB's step hold on a snapshot, as a replication does before it sends it.

    \b
    Example:
      zrepl-trio zfs-abstraction create step --target tank/data@now --jobid test
    """
    from zrepl_trio.cli.localzfs import with_zfs
    from zrepl_trio.cli.zfs_abstraction import create_step, parse_target

    dataset, snapshot, job = parse_target(target, jobid)
    with_zfs(lambda zfs: create_step(zfs, dataset, snapshot, job))


@migrate.command("0.0.X:0.1:placeholder", short_help="Placeholders of zrepl 0.0.x.")
def placeholder_marks(ctx: typer.Context, dry_run: DryRunOption = False) -> None:
    """Mark the placeholders of zrepl 0.0.x in today's way.

    Below the root_fs of each sink and pull job. The daemon must not run meanwhile.

    \b
    Example:
      zrepl-trio migrate 0.0.X:0.1:placeholder --dry-run
    """
    from zrepl_trio.cli.localzfs import with_zfs
    from zrepl_trio.cli.migrate import migrate_placeholders
    from zrepl_trio.config.load import load_config

    loaded = load_config(chosen_config(ctx)).config
    raise typer.Exit(with_zfs(lambda zfs: migrate_placeholders(zfs, loaded, dry_run=dry_run)))


@migrate.command("replication-cursor:v1-v2", short_help="Cursors without a job's name.")
def cursors(ctx: typer.Context, dry_run: DryRunOption = False) -> None:
    """Destroy zrepl's first cursors, #zrepl_replication_cursor, once today's have caught up.

    On each filesystem that exactly one push or source job sends, after it has replicated
    once. Exit status 1 when some filesystem could not be migrated.

    \b
    Example:
      zrepl-trio migrate replication-cursor:v1-v2 --dry-run
    """
    from zrepl_trio.cli.localzfs import with_zfs
    from zrepl_trio.cli.migrate import migrate_cursors
    from zrepl_trio.config.load import load_config

    loaded = load_config(chosen_config(ctx)).config
    raise typer.Exit(with_zfs(lambda zfs: migrate_cursors(zfs, loaded, dry_run=dry_run)))


@test.command(short_help="Which filesystems does a job mean?")
def filesystems(
    ctx: typer.Context,
    job: Annotated[
        str,
        typer.Option("--job", metavar="JOB", help="The job.", show_default=False),
    ],
    all_: Annotated[
        bool,
        typer.Option("--all", help="Ask of all datasets of this host; not of a pull or sink job."),
    ] = False,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input", metavar="FS", help="Ask of this one, there or not.", show_default=False
        ),
    ] = None,
) -> None:
    """Show which filesystems the job's `filesystems` let in: ACCEPT or REJECT, and the name.

    Of a pull or sink job: where the sender's filesystem lands, or why it is refused.

    \b
    Examples:
      zrepl-trio test filesystems --job backups_for_backup-srv --all
      zrepl-trio test filesystems --job backups_for_backup-srv --input tank/data/new
      zrepl-trio test filesystems --job pull_app-srv --input tank/data
    """
    from zrepl_trio.cli.localzfs import with_zfs
    from zrepl_trio.cli.testcmd import job_named, one_path, show_place, show_verdicts
    from zrepl_trio.config.load import load_config
    from zrepl_trio.config.model import PullJob, SinkJob

    path = one_path("--input", input_, all_=all_)
    chosen = job_named(load_config(chosen_config(ctx)).config, job)
    if isinstance(chosen, PullJob | SinkJob):
        show_place(chosen, path)
    else:
        admitting = chosen.filesystems
        with_zfs(lambda zfs: show_verdicts(zfs, admitting, path))


@test.command(short_help="Which datasets are placeholders?")
def placeholder(
    all_: Annotated[bool, typer.Option("--all", help="All datasets of this host.")] = False,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="FS", help="This one.", show_default=False),
    ] = None,
) -> None:
    """Show which datasets are placeholders, and their own value of zrepl:placeholder.

    \b
    Examples:
      zrepl-trio test placeholder --all
      zrepl-trio test placeholder --dataset storage/backups/tank
    """
    from zrepl_trio.cli.localzfs import with_zfs
    from zrepl_trio.cli.testcmd import one_path, show_placeholders

    path = one_path("--dataset", dataset, all_=all_)
    with_zfs(lambda zfs: show_placeholders(zfs, path))


@test.command(short_help="What does a resume token say?")
def decoderesumetoken(
    token: Annotated[
        str,
        typer.Option(
            "--token",
            metavar="TOKEN",
            help="Value of the property receive_resume_token.",
            show_default=False,
        ),
    ],
) -> None:
    """Print what a resume token says, as JSON: from which guid to which snapshot, and how.

    \b
    Example:
      zrepl-trio test decoderesumetoken --token "$(zfs get -Ho value receive_resume_token storage/backups/tank/data)"
    """
    from zrepl_trio.cli.localzfs import with_zfs
    from zrepl_trio.cli.testcmd import token_json

    print(token_json(with_zfs(lambda zfs: zfs.decode_token(token))))


FileArgument = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="Where to write it.", show_default=False, readable=False),
]


@gencompletion.command(short_help="For bash.")
def bash(file: FileArgument) -> None:
    """Write a completion script for bash to FILE.

    \b
    Example:
      zrepl-trio gencompletion bash /etc/bash_completion.d/zrepl-trio
    """
    from zrepl_trio.cli.gencompletion import write_script

    write_script("bash", file)


@gencompletion.command(short_help="For zsh.")
def zsh(file: FileArgument) -> None:
    """Write a completion script for zsh to FILE, in a directory of your fpath as _zrepl-trio.

    \b
    Example:
      zrepl-trio gencompletion zsh /usr/local/share/zsh/site-functions/_zrepl-trio
    """
    from zrepl_trio.cli.gencompletion import write_script

    write_script("zsh", file)
