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
    """Whether all of these names exist; where not, one line says which is gone.

    Args:
        names: `module:name`, or `module:Class.name`.
        without: What happens without what rests on them, as a clause.
    """
    for name in names:
        if not _exists(name):
            if name not in _told:
                _told.add(name)
                _log.warning("%s has no %s any more: %s", _package(name), name.replace(":", "."), without)
            return False
    return True


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
