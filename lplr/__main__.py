"""``python -m lplr`` is the command ``lplr``."""

import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Do the command, as a process."""
    # While it imports, and once it is done, Ctrl-C just ends it: there is nothing to clear up, and
    # Python would print a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from lplr.cli.main import main as command

    sys.exit(command())


if __name__ == "__main__":
    main()
