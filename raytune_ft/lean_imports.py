"""transformers without what takes seconds of each start and is of no use there: scikit-learn, SciPy, or PyTorch."""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import Any
from unittest import mock

from raytune_ft.private_names import all_there, patches_wanted

NEEDLESS = ("is_sklearn_available", "is_scipy_available")
"""Asked by transformers' modules when they are imported; each keeps the answer for itself."""
ASKING = ("transformers.generation.candidate_generator", "transformers.loss.loss_utils")


_models = True


def import_transformers() -> None:
    """Imports the modules of transformers that would take them along: assisted generation, and losses of vision models.

    A second call, or one after they were imported by others, does nothing. Read against transformers 5.19.
    """
    if not _models and "transformers" not in sys.modules:
        _import_without_torch()
    from transformers import utils
    from transformers.utils.import_utils import is_torch_available

    names = [f"transformers.utils:{name}" for name in NEEDLESS]
    if not is_torch_available() or not patches_wanted() or not all_there(*names, without="it imports scikit-learn"):
        return
    answers: dict[str, Any] = dict.fromkeys(NEEDLESS, _no)
    with mock.patch.multiple(utils, **answers):
        for module in ASKING:
            import_module(module)


def run_no_model() -> None:
    """Says that this process will make tokens and run no model: its transformers will have no PyTorch, to its end.

    Where it is imported already, that one stays. With it a tokenizer takes 1.3 s instead of 3.3 (2 cores).
    """
    global _models
    _models = False


def _import_without_torch() -> None:
    find, this = importlib.util.find_spec, threading.get_ident()

    def without_torch(name: str, package: str | None = None) -> ModuleSpec | None:
        hidden = name == "torch" and threading.get_ident() == this  # another thread may import meanwhile
        return None if hidden else find(name, package)

    def known(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("PyTorch was not found")

    logger = logging.getLogger("transformers")
    logger.addFilter(known)
    with mock.patch.object(importlib.util, "find_spec", without_torch):
        import_module("transformers")
    logger.removeFilter(known)


def _no() -> bool:
    return False
