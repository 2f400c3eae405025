"""The program: what the command `hullmark` and `python -m hullmark` run."""

import os
import signal
from types import FrameType

INTERRUPTED = 22


def main() -> None:
    """Run the command line on the arguments of this process, and end with its exit code.

    From the first moment on an interrupt ends in one line and not in a traceback: nothing is
    known yet that would have to be kept. A search installs handlers of its own.
    """
    signal.signal(signal.SIGINT, _quit)
    # Products here are small; the threads of a linear algebra library would only wait for each
    # other. Whoever sets the variable keeps the last word.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from hullmark import cli

    cli.main()


def _quit(number: int, frame: FrameType | None) -> None:
    os.write(2, b"hullmark: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
