"""`python -m roost` is the `roost` command: how one part of Roost starts another."""

import sys

from roost.cli import main

if __name__ == "__main__":
    sys.exit(main())
