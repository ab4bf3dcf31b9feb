"""`python -m zrepl_trio`, the same as the command `zrepl-trio`."""

import sys

from zrepl_trio.entry import main

if __name__ == "__main__":
    sys.exit(main())
