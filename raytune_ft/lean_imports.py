"""transformers without scikit-learn and SciPy: they take a second of each start, and nothing here uses them."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from unittest import mock

NEEDLESS = ("is_sklearn_available", "is_scipy_available")
"""Asked by transformers' modules when they are imported; each keeps the answer for itself."""
ASKING = ("transformers.generation.candidate_generator", "transformers.loss.loss_utils")


def import_transformers() -> None:
    """Imports the modules of transformers that would take them along: assisted generation, and losses of vision models.

    A second call, or one after they were imported by others, does nothing. Read against transformers 5.19.
    """
    from transformers import utils

    answers: dict[str, Any] = dict.fromkeys(NEEDLESS, _no)
    with mock.patch.multiple(utils, **answers):
        for module in ASKING:
            import_module(module)


def _no() -> bool:
    return False
