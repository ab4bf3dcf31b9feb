"""`python -m zrepl_trio.emulate zfs|zpool ARGUMENT...`"""

from __future__ import annotations

import sys

from zrepl_trio.emulate.cli import main

if sys.argv[1:2] not in (["zfs"], ["zpool"]):
    sys.exit("usage: python -m zrepl_trio.emulate zfs|zpool ARGUMENT...")
sys.exit(main(sys.argv[1], sys.argv[2:]))
