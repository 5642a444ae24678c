"""Finds the shipped files of `search_spaces/` from any working directory."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "search_spaces"
_PACKAGE = Path(__file__).parents[2]


def find(path: str | Path) -> Path:
    """Returns `path` itself, or the shipped file if there is none at `path` and it begins with `search_spaces/`."""
    path = Path(path)
    if os.path.isfile(path) or path.parts[:1] != (FOLDER,):  # unlike Path.is_file, it accepts too long a name
        return path
    for root in (_PACKAGE, _PACKAGE.parent):  # within an installed package, or beside it in a checkout
        if os.path.isfile(root / path):
            return root / path
    return path
