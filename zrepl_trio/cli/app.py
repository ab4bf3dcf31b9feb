"""`zrepl-trio`: the commands, each in a module of its own that is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zrepl_trio.cli.configcheck import configcheck
from zrepl_trio.cli.errors import Commands
from zrepl_trio.cli.gencompletion import complete_here
from zrepl_trio.cli.groups import gencompletion, migrate, test, zfs_abstraction
from zrepl_trio.cli.look import explain, plan
from zrepl_trio.cli.options import DestroyForeignOption, ResolveOption, chosen_config
from zrepl_trio.cli.output import watched_output
from zrepl_trio.cli.plainhelp import Cli
from zrepl_trio.cli.pprof import pprof
from zrepl_trio.cli.sandbox import sandbox
from zrepl_trio.cli.simulate import simulate

__all__ = ["app", "main"]

EXITS = (
    "Exit status: 0 all done, 1 some filesystem or other work failed, 2 wrong usage, "
    "3 could not connect (to the peer, or to the daemon), 4 config, 5 already running, "
    "130 interrupted."
)

app = Cli(
    name="zrepl-trio",
    cls=Commands,
    help="Replicate ZFS snapshots between hosts, compatible with zrepl 0.7.",
    epilog=f"A first look, without ZFS: `zrepl-trio demo`. {EXITS}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
signals = Cli(
    cls=Commands,
    help="Tell a job of the running daemon to act now, or to stop what it does.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(signals, name="signal", short_help="Wake a job, or cancel its run.")
app.add_typer(
    zfs_abstraction, name="zfs-abstraction", short_help="List or release our holds and bookmarks."
)
app.add_typer(migrate, name="migrate", short_help="Bring what old versions left to today's form.")
app.add_typer(test, name="test", short_help="Try a filter, look at placeholders and tokens.")
app.add_typer(gencompletion, name="gencompletion", short_help="Write a completion script.")
app.add_typer(pprof, name="pprof", short_help="zrepl's profiler; refused, with what to use.")


@app.command(epilog=EXITS, short_help="Run the daemon, or the active jobs once.")
def run(
    ctx: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="With --once: only these jobs.", show_default=False),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Run each active job once, show progress on stderr, exit."),
    ] = False,
    resolve: ResolveOption = None,
    destroy_foreign: DestroyForeignOption = False,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="With --once: as `plan`, do nothing.")
    ] = False,
) -> None:
    """Run the daemon in the foreground, or the active jobs once.

    The daemon serves `source` and `sink` jobs, and runs `pull` jobs by their interval and `push` jobs by
    `zrepl-trio signal wakeup JOB`. It ends on SIGTERM or SIGINT, with nothing left behind.
    A job that fails is reported and tried again; the others go on.

    \b
    Examples:
      zrepl-trio run                          the daemon, config in its default place
      zrepl-trio run --config zrepl.yml       another config
      zrepl-trio run --once                   every push, pull and snap job once, for cron or a look
      zrepl-trio run --once pull_app-srv      that one alone
    """
    if plan_only:
        from zrepl_trio.cli.exitcodes import UsageRefused
        from zrepl_trio.cli.plan import plan_command

        if not once:
            raise UsageRefused("run: --plan-only goes with --once")
        plan_command(chosen_config(ctx), jobs=jobs or [], as_json=False, resolve=resolve or [])
    from zrepl_trio.cli.run import run_command

    run_command(
        chosen_config(ctx),
        once=once,
        jobs=jobs or [],
        resolve=resolve or [],
        destroy_foreign=destroy_foreign,
    )


app.command(epilog=EXITS, short_help="Show what the active jobs would do now.")(plan)
app.command(epilog=EXITS, short_help="Tell why pruning keeps a snapshot, or does not.")(explain)


@app.command(epilog=EXITS, short_help="Run the daemon: zrepl's name for `run`.")
def daemon(ctx: typer.Context) -> None:
    """Run the daemon in the foreground, as `zrepl-trio run` does, for unit files of zrepl's."""
    from zrepl_trio.cli.run import run_command

    run_command(chosen_config(ctx), once=False, jobs=[])


@app.command(epilog=EXITS, short_help="Check a host that is to move from zrepl; changes nothing.")
def takeover(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Tell what would become of a host that zrepl, or an older daemon, replicated so far.

    Refuses while a daemon answers on the control socket. Then says what of the config is read
    differently, and for each job what it finds in ZFS (cursors, holds, placeholders, partly received
    state) and how each filesystem goes on. Reads only: run it as often as you like.

    \b
    Exit status 0: all goes on; 1: something does not, and what to do about it is said.
    \b
    Examples:
      zrepl-trio takeover
      zrepl-trio takeover --config /etc/zrepl/zrepl.yml --json | jq .Continues
    """
    from zrepl_trio.cli.takeover import takeover_command

    raise typer.Exit(takeover_command(chosen_config(ctx), as_json=json))


@app.command(epilog=EXITS, short_help="Show what the daemon does.")
def status(
    ctx: typer.Context,
    json: Annotated[
        bool, typer.Option("--json", help="Print the daemon's answer as it is, for programs.")
    ] = False,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            metavar="dump|raw",
            help="As zrepl's: `dump` is the text, `raw` is --json.",
            show_default=False,
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option("--job", metavar="JOB", help="Show this job alone.", show_default=False),
    ] = None,
    delay: Annotated[
        str,
        typer.Option(
            "--delay",
            "-d",
            metavar="DURATION",
            help="zrepl's, between two looks of its interactive mode; has no effect in `dump` and `raw`.",
            show_default=False,
        ),
    ] = "1s",
) -> None:
    """Show what the running daemon does: jobs, filesystems, steps, bytes, errors in full.

    Asking costs the daemon nothing: it answers from memory and runs no zfs.

    \b
    Examples:
      zrepl-trio status
      zrepl-trio status --job pull_app-srv
      zrepl-trio status --json --job pull_app-srv | jq .Jobs
      watch -n1 zrepl-trio status
    """
    from zrepl_trio.cli.status import check_delay, status_command, wants_raw

    check_delay(delay)
    raw = wants_raw(mode, as_json=json)
    status_command(chosen_config(ctx), as_json=raw, job=job)


@app.command(short_help="Tell Nagios or Icinga whether all is well.")
def check(
    ctx: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Only these jobs.", show_default=False),
    ] = None,
    max_age: Annotated[
        str,
        typer.Option(
            "--max-age",
            metavar="WARN/CRIT",
            help="How old the newest snapshot of each dataset here may be, such as 26h/50h.",
            show_default=False,
        ),
    ] = "",
    max_lag: Annotated[
        str,
        typer.Option(
            "--max-lag",
            metavar="WARN/CRIT",
            help="How far a copy may be behind its source.",
            show_default=False,
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the verdict for programs.")] = False,
) -> None:
    """Tell a monitoring system, in Nagios' way, whether all is well.

    Looks at the jobs, at how their last runs ended and, if asked to, at the age of snapshots and
    the lag of copies. One duration instead of WARN/CRIT is the critical one. The daemon is asked;
    `zfs` runs only for --max-age, in a source or sink job or before a pull's first run.

    \b
    Exit status: 0 OK, 1 WARNING, 2 CRITICAL (no daemon included), 3 UNKNOWN.
    \b
    Examples:
      zrepl-trio check
      zrepl-trio check --max-age 26h/50h --max-lag 1d/3d
      zrepl-trio check pull_app-srv --json | jq .findings
    """
    from zrepl_trio.cli.check import check_command

    check_command(chosen_config(ctx), jobs or [], max_age=max_age, max_lag=max_lag, as_json=json)


@signals.command(epilog=EXITS)
def wakeup(
    ctx: typer.Context,
    job: Annotated[
        str,
        typer.Argument(metavar="JOB", help="Name of a push, pull or snap job.", show_default=False),
    ],
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until the run has ended; the exit status tells how."),
    ] = False,
    resolve: ResolveOption = None,
    destroy_foreign: DestroyForeignOption = False,
) -> None:
    """Start a run of JOB now: replicate and prune, or only prune in a snap job.

    Refused while one runs already.

    \b
    Examples:
      zrepl-trio signal wakeup pull_app-srv
      zrepl-trio signal wakeup pull_app-srv --wait && echo replicated
    """
    from zrepl_trio.cli.signal import wakeup_command

    wakeup_command(
        chosen_config(ctx),
        job,
        wait=wait,
        resolve=resolve or [],
        destroy_foreign=destroy_foreign,
    )


@signals.command(epilog=EXITS)
def reset(
    ctx: typer.Context,
    job: Annotated[
        str,
        typer.Argument(metavar="JOB", help="Name of a push, pull or snap job.", show_default=False),
    ],
) -> None:
    """Cancel the present run of JOB.

    What was received so far is kept, and the next run resumes it. Refused while none runs.

    \b
    Example:
      zrepl-trio signal reset pull_app-srv
    """
    from zrepl_trio.cli.signal import reset_command

    reset_command(chosen_config(ctx), job)


@app.command(short_help="Hand an ssh connection to the daemon.")
def stdinserver(
    ctx: typer.Context,
    identity: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Identity of the client, as in `client_identities`.",
            show_default=False,
        ),
    ],
    sockdir: Annotated[
        str | None,
        typer.Option(
            "--sockdir", metavar="DIR", help="Where the daemon's sockets are.", show_default=False
        ),
    ] = None,
) -> None:
    """Hand an ssh connection to the daemon; for `command=` in authorized_keys.

    sshd runs it when the puller's key logs in. It passes its standard input and output on to
    the daemon of this host as client ID, and waits for the end. Nobody types it.

    \b
    In /root/.ssh/authorized_keys, one line:
      command="/usr/local/bin/zrepl-trio stdinserver backup-srv.example.com",restrict ssh-ed25519 AAAA… pull
    Before OpenSSH 7.2, instead of `restrict`:
      no-port-forwarding,no-X11-forwarding,no-pty,no-agent-forwarding,no-user-rc
    """
    # The real path is entry.py's, which comes here for a `--help` only.
    from zrepl_trio.transport.stdinproxy import main as proxy

    config = chosen_config(ctx)
    arguments = ["--config", str(config)] if config else []
    arguments += [*(["--sockdir", sockdir] if sockdir else []), identity]
    raise typer.Exit(proxy(arguments))


app.command(short_help="Check a config; all errors at once.")(configcheck)
app.command(short_help="Show what configs will do in a year, without ZFS.")(simulate)
app.command(
    short_help="Run a command with emulated pools.",
    reads_configs=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(sandbox)


@app.command(short_help="Show our version and the daemon's.")
def version(
    ctx: typer.Context,
    show: Annotated[
        str | None,
        typer.Option(
            "--show", metavar="client|daemon", help="Only this one's.", show_default=False
        ),
    ] = None,
) -> None:
    """Show our version, and the running daemon's.

    \b
    Examples:
      zrepl-trio version
      zrepl-trio version --show daemon        fails when no daemon answers
    """
    from zrepl_trio.cli.version import version_command

    version_command(chosen_config(ctx), show)


@app.command(short_help="Watch it work, without ZFS or root.", reads_configs=False)
def demo(
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="DIR",
            help="Leave everything in DIR (made by us) for a look: configs, logs, pools.",
            show_default=False,
        ),
    ] = None,
    standin: Annotated[
        bool,
        typer.Option("--standin", help="Do without OpenSSH's sshd, even where it is installed."),
    ] = False,
) -> None:
    """Watch two daemons replicate over OpenSSH, on emulated pools, in a temporary directory.

    Full, incremental, cut in the middle and resumed, then both sides compared. Needs no ZFS and
    no root, takes seconds, touches nothing of yours and leaves nothing behind.
    """
    from zrepl_trio.cli.demo import demo_command

    demo_command(keep, standin=standin)


def main() -> None:
    """The console script, for all but the data path of `stdinserver`."""
    complete_here()
    with watched_output():
        app(prog_name="zrepl-trio")
