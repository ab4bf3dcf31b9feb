"""Runs the simulations of docs/first-year.md, and puts what they print and draw back there.

    first-years.py [NAME ...]

The page itself says which: each of its commands draws one picture, `docs/img/first-year-NAME.svg`, and the block
after it is what the command prints, as far as it is about what was kept.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "first-year.md"

_YEAR = re.compile(
    r"```sh\n(?P<command>zrepl-trio simulate [^`]*?--plot docs/img/first-year-(?P<name>[\w-]+)\.svg)\n"
    r"```\n\n```\n(?P<printed>[^`]*)```\n"
)
_SHOWN = ("Links:", "Snapshots, and", "Kept at", "Nothing needed", "Needs a person")
"""How the paragraphs begin that the page has."""


def printed(command: str) -> str:
    """What the page shows of what the command prints."""
    program, *words = shlex.split(command.replace("\\\n", ""))
    argv = [str(Path(sys.executable).with_name(program)), *words]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "TZ": "UTC"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command}\nends with {done.returncode}:\n{done.stdout}{done.stderr}")
    paragraphs = done.stdout.strip().split("\n\n")
    return "\n\n".join(each for each in paragraphs if each.startswith(_SHOWN)) + "\n"


def main(names: list[str]) -> None:
    years = {found["name"]: found["command"] for found in _YEAR.finditer(PAGE.read_text())}
    if unknown := set(names) - years.keys():
        sys.exit(f"{PAGE}: no such year: {', '.join(sorted(unknown))}; it has {', '.join(years)}")

    writing = Lock()

    def work(name: str) -> None:
        text = printed(years[name])
        with writing:
            page = PAGE.read_text()
            (found,) = (each for each in _YEAR.finditer(page) if each["name"] == name)
            PAGE.write_text(page[: found.start("printed")] + text + page[found.end("printed") :])
        print(name, flush=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, names or years))


if __name__ == "__main__":
    main(sys.argv[1:])
