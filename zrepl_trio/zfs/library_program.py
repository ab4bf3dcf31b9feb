"""A program of its own: makes and destroys bookmarks by OpenZFS's C library, many by one call.

    python -I -S library_program.py SONAME

Its stdin is JSON: `{"make": {"pool/fs#name": ["pool/fs@snapshot", GUID]}, "destroy": ["pool/fs#name"]}`; an empty
one only loads the library. Of each pool, all are made or none. One that is of another guid, since its snapshot is another of that name
by now, goes again. Unless all were made, none is destroyed; else all of a pool that are there, or none.
It ends with 0, with 1 and a line for each that was refused, or with 3 where there is no such library.

A child, as a `zfs` is, so that a call that hangs in the kernel hangs nothing of the daemon; and with nothing but
the standard library, since it has to start fast.

Functions and their promises: `lzc_bookmark`, `lzc_get_bookmarks` and `lzc_destroy_bookmarks` of OpenZFS's lib/libzfs_core/libzfs_core.c, which calls
its interface committed.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

__all__ = ["main"]

NO_LIBRARY = 3
_UNIQUE_NAMES = 1  # NV_UNIQUE_NAME of sys/nvpair.h


class Library:
    """`libzfs_core`, with the list functions of `libnvpair`, which it is linked with."""

    def __init__(self, soname: str) -> None:
        """OSError or AttributeError where there is none that has what we call."""
        self._library = library = ctypes.CDLL(soname)
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        out = ctypes.POINTER(pointer)
        for name, takes, gives in (
            ("libzfs_core_init", [], number),
            ("lzc_bookmark", [pointer, out], number),
            ("lzc_destroy_bookmarks", [pointer, out], number),
            ("lzc_get_bookmarks", [text, pointer, out], number),
            ("nvlist_alloc", [out, ctypes.c_uint, number], number),
            ("nvlist_free", [pointer], None),
            ("nvlist_add_boolean", [pointer, text], number),
            ("nvlist_add_string", [pointer, text, text], number),
            ("nvlist_next_nvpair", [pointer, pointer], pointer),
            ("nvpair_name", [pointer], text),
            ("nvpair_value_int32", [pointer, ctypes.POINTER(ctypes.c_int32)], number),
            ("nvlist_lookup_nvlist", [pointer, text, out], number),
            ("nvlist_lookup_uint64", [pointer, text, ctypes.POINTER(ctypes.c_uint64)], number),
        ):
            function = getattr(library, name)
            function.argtypes, function.restype = takes, gives
        status = library.libzfs_core_init()
        if status != 0:
            raise OSError(status, os.strerror(status))

    def make(self, bookmarks: dict[str, str]) -> dict[str, int]:
        """Bookmark to snapshot, all of one pool; what was refused, with its errno, and then none is made."""
        return self._call(self._library.lzc_bookmark, dict(bookmarks))

    def guids(self, filesystem: str) -> dict[str, int]:
        """Of its bookmarks, by their full names. OSError where it has none to ask."""
        library = self._library
        asked, found = ctypes.c_void_p(), ctypes.c_void_p()
        _check(library.nvlist_alloc(ctypes.byref(asked), _UNIQUE_NAMES, 0))
        try:
            _check(library.nvlist_add_boolean(asked, b"guid"))
            _check(library.lzc_get_bookmarks(filesystem.encode(), asked, ctypes.byref(found)))
        finally:
            library.nvlist_free(asked)
        guids: dict[str, int] = {}
        pair = library.nvlist_next_nvpair(found, None)
        while pair:
            name = library.nvpair_name(pair)
            properties, guid = ctypes.c_void_p(), ctypes.c_void_p()  # both belong to `found`
            number = ctypes.c_uint64()
            _check(library.nvlist_lookup_nvlist(found, name, ctypes.byref(properties)))
            _check(library.nvlist_lookup_nvlist(properties, b"guid", ctypes.byref(guid)))
            _check(library.nvlist_lookup_uint64(guid, b"value", ctypes.byref(number)))
            guids[f"{filesystem}#{name.decode()}"] = number.value
            pair = library.nvlist_next_nvpair(found, pair)
        library.nvlist_free(found)
        return guids

    def destroy(self, bookmarks: list[str]) -> dict[str, int]:
        """All of one pool; what was refused, with its errno. One that is missing counts as destroyed."""
        return self._call(self._library.lzc_destroy_bookmarks, dict.fromkeys(bookmarks))

    def _call(
        self, function: ctypes._NamedFuncPointer, names: dict[str, str | None]
    ) -> dict[str, int]:
        library = self._library
        asked, refused = ctypes.c_void_p(), ctypes.c_void_p()
        _check(library.nvlist_alloc(ctypes.byref(asked), _UNIQUE_NAMES, 0))
        for name, value in names.items():
            if value is None:
                _check(library.nvlist_add_boolean(asked, name.encode()))
            else:
                _check(library.nvlist_add_string(asked, name.encode(), value.encode()))
        status = function(asked, ctypes.byref(refused))
        found: dict[str, int] = {}
        pair = library.nvlist_next_nvpair(refused, None) if refused.value else None
        while pair:
            number = ctypes.c_int32()
            _check(library.nvpair_value_int32(pair, ctypes.byref(number)))
            found[library.nvpair_name(pair).decode()] = number.value
            pair = library.nvlist_next_nvpair(refused, pair)
        library.nvlist_free(asked)
        if refused.value:
            library.nvlist_free(refused)
        if status != 0 and not found:
            found[next(iter(names))] = status
        return found if status != 0 else {}


def _check(status: int) -> None:
    if status != 0:
        raise OSError(status, os.strerror(status))


def _of_another(library: Library, wanted: dict[str, int]) -> list[str]:
    """The bookmarks that are there, but with another guid."""
    filesystems = dict.fromkeys(name.partition("#")[0] for name in wanted)
    guids = {name: guid for each in filesystems for name, guid in library.guids(each).items()}
    return [name for name, guid in wanted.items() if guids.get(name) != guid]


def _by_pool(names: list[str]) -> list[list[str]]:
    pools: dict[str, list[str]] = {}
    for name in names:
        pools.setdefault(name.partition("#")[0].partition("/")[0], []).append(name)
    return list(pools.values())


def _work(library: Library, make: dict[str, tuple[str, int]], destroy: list[str]) -> list[str]:
    """What was refused. Unless all was made, nothing is destroyed: what is there still may be what protects."""
    said: list[str] = []
    for names in _by_pool(list(make)):
        refused = library.make({name: make[name][0] for name in names})
        said += [f"cannot create bookmark '{n}': {os.strerror(e)}" for n, e in refused.items()]
        if not refused:
            wrong = _of_another(library, {name: make[name][1] for name in names})
            said += [f"cannot create bookmark '{n}': {make[n][0]} is another by now" for n in wrong]
            if wrong:
                library.destroy(wrong)
    if said:
        return said
    for names in _by_pool(destroy):
        refused = library.destroy(names)
        said += [f"cannot destroy bookmark '{n}': {os.strerror(e)}" for n, e in refused.items()]
    return said


def main() -> int:
    """Do what stdin asks for; the exit status."""
    asked = json.load(sys.stdin)
    try:
        library = Library(sys.argv[1])
    except (OSError, AttributeError) as error:
        sys.stderr.write(f"{sys.argv[1]}: {error}\n")
        return NO_LIBRARY
    said = _work(library, asked["make"], asked["destroy"])
    sys.stderr.writelines(f"{line}\n" for line in said)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
