"""`configcheck`: is the config right, what does it mean today, and what of it runs here?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from zrepl_trio.cli.options import chosen_config

__all__ = ["configcheck"]


def configcheck(
    ctx: typer.Context,
    skip_cert_check: Annotated[
        bool, typer.Option("--skip-cert-check", help="Do not read the certificates it names.")
    ] = False,
    print_current: Annotated[
        bool,
        typer.Option("--print-current", help="Print the config in today's form, includes merged."),
    ] = False,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="yaml|json",
            help="As zrepl's: print the whole config, all defaults filled in.",
            show_default=False,
        ),
    ] = "",
    what: Annotated[
        str,
        typer.Option(
            "--what",
            metavar="all|config|jobs|logging",
            help="Which part of it --format prints (default: all); all of it is checked.",
            show_default=False,
        ),
    ] = "",
    json_schema: Annotated[
        bool,
        typer.Option("--json-schema", help="Print the JSON schema for editors; reads no config."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also on what `run` would refuse.")
    ] = False,
) -> None:
    """Check a config, and say everything that is wrong with it at once.

    Each fault is one line: FILE:LINE:COLUMN: KEY: what is wrong (accepted: what is right).
    Remarks on a right config go to stderr too: what was translated from zrepl 0.0.x, what is
    hardly meant, what this version does not run yet.

    \b
    Exit status: 0 the config is right, 1 it is not.
    \b
    Examples:
      zrepl-trio configcheck
      zrepl-trio configcheck --config old.yml --print-current > /etc/zrepl/zrepl.yml
      zrepl-trio configcheck --format json --what jobs | jq .jobs
      zrepl-trio configcheck --json-schema > zrepl.schema.json
    """
    if json_schema:
        from zrepl_trio.config.schema import config_schema

        print(json.dumps(config_schema(), indent=2))
        return
    _refuse_meaningless(format_, what, print_current=print_current)
    right = _check(
        chosen_config(ctx),
        skip_cert_check=skip_cert_check,
        print_current=print_current,
        strict=strict,
        format_=format_,
        what=what,
    )
    if not right:
        raise typer.Exit(1)


def _refuse_meaningless(format_: str, what: str, *, print_current: bool) -> None:
    from zrepl_trio.cli.exitcodes import UsageRefused

    if format_ not in {"", "yaml", "json"}:
        why = ": that is Go's syntax" if format_ == "pretty" else ""
        raise UsageRefused(f"--format {format_}{why} (accepted: yaml, json)")
    if what not in {"", "all", "config", "jobs", "logging"}:
        raise UsageRefused(f"--what {what} (accepted: all, config, jobs, logging)")
    if format_ and print_current:
        raise UsageRefused("--format and --print-current exclude each other")


def _check(
    path: Path | None,
    *,
    skip_cert_check: bool,
    print_current: bool,
    strict: bool,
    format_: str,
    what: str,
) -> bool:
    from zrepl_trio.config.certs import certificate_problems
    from zrepl_trio.config.load import load_config
    from zrepl_trio.config.render import as_yaml, render_config, whole_config
    from zrepl_trio.config.support import unsupported, without_effect
    from zrepl_trio.errors import ConfigErrors

    try:
        loaded = load_config(path)
    except ConfigErrors as errors:
        _say("", errors.problems)
        return False
    problems = [] if skip_cert_check else certificate_problems(loaded)
    refused = unsupported(loaded)
    _say("note: ", loaded.notes)
    if not loaded.config.jobs:
        _say(
            "warning: ", [f"{loaded.path}: there are no jobs, the daemon would have nothing to do"]
        )
    _say("warning: ", without_effect(loaded))
    _say("warning: `run` will refuse this: ", refused)
    _say("", problems)
    if problems or (strict and refused):
        return False
    if format_:
        data = whole_config(loaded.config, what)
        print(json.dumps(data) if format_ == "json" else as_yaml(data).removesuffix("\n"))
    elif print_current:
        print(render_config(loaded.config), end="")
    else:
        count = len(loaded.config.jobs)
        print(f"{loaded.path}: right, {count} job{'' if count == 1 else 's'}")
    return True


def _say(head: str, lines: object) -> None:
    assert isinstance(lines, list | tuple)
    for line in lines:
        print(f"{head}{line}", file=sys.stderr)
