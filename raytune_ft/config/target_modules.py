"""Interprets PEFT's `target_modules`."""

from __future__ import annotations

import re
from collections.abc import Collection


def names(target_modules: str | Collection[str], module: str) -> bool:
    """Tells whether `target_modules` names the module with this path.

    A text is a pattern of the whole path, and each entry of a list is the end of a path. `all-linear` matches none
    here, because which modules it means depends on the model.
    """
    if isinstance(target_modules, str):
        return target_modules != "all-linear" and re.fullmatch(target_modules, module) is not None
    return any(module == each or module.endswith(f".{each}") for each in target_modules)
