"""Prints results to stdout and logs to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

PIPE_WIDTH = 120  # width of a table, in characters, when it is written to a file or log

console = Console(soft_wrap=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
log = Console(stderr=True, soft_wrap=True, highlight=False)


def emit(value: Any, as_json: bool, text: Callable[[], None]) -> None:
    """Prints a result: `value` as one JSON document for programs, or whatever `text` prints for people."""
    if as_json:
        json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
        sys.stdout.write("\n")
    else:
        text()


def out(line: str) -> None:
    """Prints one plain line of a result, never wrapped or styled."""
    console.print(line, markup=False, soft_wrap=True)


def say(line: str) -> None:
    """Prints one plain log line, never wrapped or styled."""
    log.print(line, markup=False)
