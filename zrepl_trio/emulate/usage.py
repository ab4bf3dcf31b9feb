"""Usage texts of the emulated commands, word for word OpenZFS 2.3's: zrepl detects features by them.

What they offer and the emulation lacks is refused by name when asked for.
"""

from __future__ import annotations

from zrepl_trio.emulate.fault import Fault

__all__ = ["commands_usage", "is_real", "usage_error"]

_LINES = {
    "version": ["version [-j]"],
    "create": [
        "create [-Pnpuv] [-o property=value] ... <filesystem>",
        "create [-Pnpsv] [-b blocksize] [-o property=value] ... -V <size> <volume>",
    ],
    "destroy": [
        "destroy [-fnpRrv] <filesystem|volume>",
        "destroy [-dnpRrv] <filesystem|volume>@<snap>[%<snap>][,...]",
        "destroy <filesystem|volume>#<bookmark>",
    ],
    "snapshot": ["snapshot [-r] [-o property=value] ... <filesystem|volume>@<snap> ..."],
    "rollback": ["rollback [-rRf] <snapshot>"],
    "rename": [
        "rename [-f] <filesystem|volume|snapshot> <filesystem|volume|snapshot>",
        "rename -p [-f] <filesystem|volume> <filesystem|volume>",
        "rename -u [-f] <filesystem> <filesystem>",
        "rename -r <snapshot> <snapshot>",
    ],
    "bookmark": ["bookmark <snapshot|bookmark> <newbookmark>"],
    "list": [
        "list [-Hp] [-j [--json-int]] [-r|-d max] [-o property[,...]] [-s property]...",
        "    [-S property]... [-t type[,...]] [filesystem|volume|snapshot] ...",
    ],
    "set": ["set [-u] <property=value> ... <filesystem|volume|snapshot> ..."],
    "get": [
        'get [-rHp] [-j [--json-int]] [-d max] [-o "all" | field[,...]]',
        "    [-t type[,...]] [-s source[,...]]",
        '    <"all" | property[,...]> [filesystem|volume|snapshot|bookmark] ...',
    ],
    "inherit": ["inherit [-rS] <property> <filesystem|volume|snapshot> ..."],
    "mount": ["mount", "mount [-flvO] [-o opts] <-a|-R filesystem|filesystem>"],
    "unmount": ["unmount [-fu] <-a | filesystem|mountpoint>"],
    "send": [
        "send [-DLPbcehnpsVvw] [-i|-I snapshot]",
        "     [-R [-X dataset[,dataset]...]]     <snapshot>",
        "send [-DnVvPLecw] [-i snapshot|bookmark] <filesystem|volume|snapshot>",
        "send [-DnPpVvLec] [-i bookmark|snapshot] --redact <bookmark> <snapshot>",
        "send [-nVvPe] -t <receive_resume_token>",
        "send [-PnVv] --saved filesystem",
    ],
    "receive": [
        "receive [-vMnsFhu] [-o <property>=<value>] ... [-x <property>] ...",
        "    <filesystem|volume|snapshot>",
        "receive [-vMnsFhu] [-o <property>=<value>] ... [-x <property>] ... ",
        "    [-d | -e] <filesystem>",
        "receive -A <filesystem|volume>",
    ],
    "hold": ["hold [-r] <tag> <snapshot> ..."],
    "holds": ["holds [-rHp] <snapshot> ..."],
    "release": ["release [-r] <tag> <snapshot> ..."],
    "load-key": ["load-key [-rn] [-L <keylocation>] <-a | filesystem|volume>"],
}

_MORE = """
For the property list, run: zfs set|get

For the delegated permission list, run: zfs allow|unallow

For further help on a command or topic, run: zfs help [<topic>]"""


def usage_error(command: str, problem: str = "") -> Fault:
    """The Fault of a command called wrongly: what is wrong, its usage, exit status 2."""
    lines = [problem] if problem else []
    lines.append("usage:")
    lines.extend("\t" + line for line in _LINES[command])
    lines.append(_MORE)
    return Fault("\n".join(lines), 2)


def commands_usage(problem: str) -> Fault:
    """The Fault of `zfs` without a command, or with an unknown one."""
    lines = [problem, "usage: zfs command args ...", "where 'command' is one of the following:", ""]
    for usages in _LINES.values():
        lines.extend("\t" + line for line in usages)
    return Fault("\n".join(lines), 2)


_NOT_EMULATED = frozenset(
    [
        "allow",
        "change-key",
        "channel-program",
        "clone",
        "diff",
        "groupspace",
        "help",
        "jail",
        "project",
        "projectspace",
        "promote",
        "program",
        "redact",
        "rewrite",
        "share",
        "unallow",
        "unjail",
        "unload-key",
        "unshare",
        "unzone",
        "upgrade",
        "userspace",
        "wait",
        "zone",
    ]
)


def is_real(command: str) -> bool:
    """Whether real zfs has the command, though the emulation has not."""
    return command in _NOT_EMULATED
