"""`python -m pruneviz` is the command `pruneviz`."""

import sys

from pruneviz.cli import main

if __name__ == "__main__":
    sys.exit(main())
