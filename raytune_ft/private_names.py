"""Names of other packages that are not public, and that changes of ours rest on: where one is gone, the change is left
out, with one line that says which name, and what is lost.

`tests/unit/test_private_names.py` holds all of them, with their signatures and the versions they were read in.
"""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import Any

PATCHES = "RAYTUNE_FT_PATCHES"
"""Environment variable; `0` leaves out every change that only makes Ray start or run faster."""
FORKED_START = "RAYTUNE_FT_FORKED_START"
"""Environment variable; with `0` each worker is a new process, as Ray starts it, and no copy of one that is there."""

_log = logging.getLogger(__name__)
_told: set[str] = set()


def patches_wanted() -> bool:
    """Whether the user lets Ray be changed where that makes it faster."""
    return os.environ.get(PATCHES) != "0"


def forked_start_wanted() -> bool:
    """Whether the user lets workers be copies of a process that is there."""
    return patches_wanted() and os.environ.get(FORKED_START) != "0"


def all_there(*names: str, without: str) -> bool:
    """Whether all of these names exist; where not, one line of the log says which is gone.

    Args:
        names: `module:name`, or `module:Class.name`.
        without: What happens without what rests on them, as a clause.
    """
    line = missing(*names, without=without)
    if line and line not in _told:
        _told.add(line)
        _log.warning(line)
    return line is None


def missing(*names: str, without: str) -> str | None:
    """The line, for processes whose log the user does not see; None where all are there."""
    gone = next((name for name in names if not _exists(name)), None)
    return f"{_package(gone)} has no {gone.replace(':', '.')} any more: {without}" if gone else None


def _exists(name: str) -> bool:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def _package(name: str) -> str:
    package = name.partition(":")[0].partition(".")[0]
    try:
        return f"{package} {import_module(package).__version__}"
    except (ImportError, AttributeError):
        return package
