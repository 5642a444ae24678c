"""The files of `search_spaces/`, found from any working directory."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "search_spaces"
_PACKAGE = Path(__file__).parents[2]


def find(path: str | Path) -> Path:
    """`path` as it stands; where nothing is there, and it begins with `search_spaces/`, the shipped file."""
    path = Path(path)
    if os.path.isfile(path) or path.parts[:1] != (FOLDER,):  # unlike Path.is_file, no error where the name is too long
        return path
    for root in (_PACKAGE, _PACKAGE.parent):  # inside of an installed package; beside it in a checkout
        if os.path.isfile(root / path):
            return root / path
    return path
