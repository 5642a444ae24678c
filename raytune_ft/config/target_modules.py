"""What PEFT's `target_modules` means."""

from __future__ import annotations

import re
from collections.abc import Collection


def names(target_modules: str | Collection[str], module: str) -> bool:
    """Whether it names the module of that path: a text is a pattern of the whole path, others are ends of it.

    `all-linear` names none: which modules it takes is up to the model.
    """
    if isinstance(target_modules, str):
        return target_modules != "all-linear" and re.fullmatch(target_modules, module) is not None
    return any(module == each or module.endswith(f".{each}") for each in target_modules)
