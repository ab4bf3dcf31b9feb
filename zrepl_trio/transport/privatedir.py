"""Directories that hold our sockets and locks: whoever may enter them may act as us.

Made 0700 where absent; refused where anybody else owns them, may use them, or may swap them
for another (an ancestor, or a directory holding a symlink on the way, writable by others).
"""

from __future__ import annotations

import os
import pwd
import stat

from zrepl_trio.errors import Refused

__all__ = ["check_private_directory", "ensure_private_directory"]

_PRIVATE = 0o700
_MAX_SYMLINKS = 40
"""As the kernel's limit (path_resolution(7))."""


def ensure_private_directory(path: str) -> None:
    """Make `path` (and missing parents) 0700, or check that it is private already.

    Private: a directory owned by our user or root, without any access for group and others, and
    below no directory that others may write to unless it has the sticky bit. Symlinks are
    followed and checked likewise. Raises Refused with path, owner, mode and the mending command.
    """
    path = os.path.abspath(path)
    try:
        _make(path, path)
        _check_way(path, path)
        info = os.stat(path)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; it must be a directory of our own") from error
    if not stat.S_ISDIR(info.st_mode):
        raise Refused(f"{path} is not a directory; move it away: mv {path} {path}.old")
    if info.st_uid not in {0, os.geteuid()}:
        raise Refused(
            f"{path} {_described(info)} is not owned by {_owners()}; "
            f"run: chown {_user_name(os.geteuid())} {path} && chmod 0700 {path}"
        )
    if info.st_mode & 0o077:
        raise Refused(
            f"{path} {_described(info)} gives group or others access; run: chmod 0700 {path}"
        )


def check_private_directory(path: str) -> None:
    """The same of a directory that is there, without making one."""
    if os.path.exists(path):
        ensure_private_directory(path)


def _make(path: str, wanted: str) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        _make(parent, wanted)
    # Before anything is made: where others may put a symlink in its place, the chmod below would
    # change what that leads to.
    _check_way(path, wanted)
    try:
        os.mkdir(path, _PRIVATE)
    except FileExistsError:
        return  # another process was faster, or it is no directory: the checks tell
    os.chmod(path, _PRIVATE)  # a umask may have taken even our own bits


def _directories_passed(path: str) -> list[str]:
    """Every directory in which a name is looked up on the way to `path`, symlinks resolved."""
    passed = []
    here = "/"
    names = path.strip("/").split("/")[::-1]
    links = 0
    while names:
        name = names.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        passed.append(here)
        candidate = os.path.join(here, name)
        if os.path.islink(candidate):
            links += 1
            if links > _MAX_SYMLINKS:
                raise Refused(f"{path}: too many symbolic links")
            target = os.readlink(candidate)
            if target.startswith("/"):
                here = "/"
            names += target.split("/")[::-1]
        else:
            here = candidate
    return passed


def _check_way(path: str, wanted: str) -> None:
    """Refused when others may swap what is on the way to `path`; the text is about `wanted`."""
    for directory in _directories_passed(path):
        info = os.stat(directory)
        if info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX:
            raise Refused(
                f"{wanted} can be swapped for another: {directory} {_described(info)} above it "
                f"is writable by others without the sticky bit; run: chmod o-w {directory}"
            )


def _described(info: os.stat_result) -> str:
    return f"(owner {_user(info.st_uid)}, mode {stat.S_IMODE(info.st_mode):04o})"


def _owners() -> str:
    ours = _user(os.geteuid())
    return f"{ours} or root" if os.geteuid() else ours


def _user(uid: int) -> str:
    name = _user_name(uid)
    return f"uid {uid}" if name == str(uid) else f"{name} (uid {uid})"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
