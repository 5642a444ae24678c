"""`python -m raytune_ft`, and the console script: the command, and a quick way out."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from typing import Any

from raytune_ft.cli.app import main

RARELY = (50_000, 20, 20)
"""Objects until the garbage collector looks again: as it is, it takes a quarter of the time of imports."""


def run() -> None:
    """As an interpreter ends, but for tearing down what was imported: with torch and Ray that takes a second."""
    gc.set_threshold(*RARELY)
    # What the interpreter calls at its end has no public name.
    ends: list[Any] = [getattr(threading, "_shutdown", None), getattr(atexit, "_run_exitfuncs", None)]
    try:
        main()
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            raise
    else:
        code = None
    if None in ends:
        sys.exit(code)
    try:
        for last in ends:
            last()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # nobody reads on
        code = code or 141
    os._exit(code or 0)


if __name__ == "__main__":
    run()
