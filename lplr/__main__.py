"""``python -m lplr`` is the command ``lplr``."""

import sys

from lplr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
