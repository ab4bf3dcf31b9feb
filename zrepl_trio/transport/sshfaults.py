"""What to tell a person when ssh failed: its own words, and the next thing to do.

The table maps what OpenSSH's client says (log.c, sshconnect.c, readconf.c and friends, 6.x to 10.x)
to advice; unknown words are shown without.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zrepl_trio.transport.sshargs import SshTarget

__all__ = ["advice_for", "ended_text", "shown_stderr"]

_SHOWN_CHARACTERS = 2000

_COMMAND_NOT_EXECUTABLE = 126
_COMMAND_NOT_FOUND = 127


@dataclass(frozen=True, slots=True)
class _Fault:
    says: str
    advice: str


# First match counts.
_FAULTS = (
    _Fault(
        says=r"command-line.*(unsupported|bad configuration|missing argument|invalid|garbage|bad )",
        advice="mend the entry of connect.options that ssh refuses here; OpenSSH takes yes or no, "
        "not on or off",
    ),
    _Fault(
        says=r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        advice="{host} shows another host key than the known one: find out why before you replace "
        "the entry in known_hosts",
    ),
    _Fault(
        says=r"Host key verification failed|No [A-Z0-9-]+ host key is known|authenticity of host",
        advice="make the host key known: `ssh-keyscan -p {port} {host}` into known_hosts of the "
        "daemon's user, or into a file named by UserKnownHostsFile= in connect.options, and "
        "compare the fingerprint on {host} itself; in batch mode ssh asks nobody",
    ),
    _Fault(
        says=r"UNPROTECTED PRIVATE KEY FILE|bad permissions",
        advice="run: chmod 0600 {identity_file}",
    ),
    _Fault(
        says=r"Identity file .* not accessible|Load key .*: (No such file|Permission denied)",
        advice="connect.identity_file must name a private key that the daemon's user can read",
    ),
    _Fault(
        says=r"Load key|passphrase",
        advice="{identity_file} must hold a private key without passphrase that this ssh can read",
    ),
    _Fault(
        says=r"Permission denied|Too many authentication failures",
        advice="the key's public half must stand in authorized_keys of {user} on {host}, and sshd "
        "there must let {user} in (for root: PermitRootLogin forced-commands-only)",
    ),
    _Fault(
        says=r"Connection refused",
        advice="nothing listens at {host} port {port}: is sshd running, is connect.port right?",
    ),
    _Fault(
        says=r"Could not resolve hostname",
        advice="connect.host {host!r} is not known to this system's resolver",
    ),
    _Fault(
        says=r"timed out|No route to host|Network is unreachable|Host is down",
        advice="{host} cannot be reached from here: is it up, and is a firewall between?",
    ),
    _Fault(
        says=r"kex_exchange_identification|Connection (closed|reset)",
        advice="sshd on {host} closed the connection: see its log, and MaxStartups",
    ),
)


def shown_stderr(stderr: bytes) -> str:
    """ssh's words on one line, nothing in it acts on a terminal; the end of them if long."""
    # OpenSSH frames some warnings with `@`.
    lines = [line.strip("@ \t") for line in stderr.decode("utf-8", "backslashreplace").splitlines()]
    text = "; ".join(
        "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines if line
    )
    return text if len(text) <= _SHOWN_CHARACTERS else "…" + text[-_SHOWN_CHARACTERS:]


def advice_for(status: int | None, stderr: bytes, target: SshTarget) -> str:
    """What to do next; empty when nothing is known."""
    text = stderr.decode("utf-8", "replace")
    for fault in _FAULTS:
        if re.search(fault.says, text, re.IGNORECASE):
            return fault.advice.format(
                host=target.host,
                user=target.user,
                port=target.port,
                identity_file=target.identity_file,
            )
    if status in {_COMMAND_NOT_FOUND, _COMMAND_NOT_EXECUTABLE}:
        return (
            f"the forced command in authorized_keys on {target.host} can't be run: give "
            "zrepl-trio's absolute path there"
        )
    if status == 0:
        return (
            f"what ran on {target.host} was not `zrepl-trio stdinserver`: the key's line in "
            "authorized_keys needs it as command="
        )
    return ""


def ended_text(status: int, stderr: bytes, target: SshTarget) -> str:
    """One statement: how ssh ended, in its own words, and what to do."""
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    words = shown_stderr(stderr)
    advice = advice_for(status, stderr, target)
    return f"ssh {how}" + (f": {words}" if words else "") + (f" — {advice}" if advice else "")
