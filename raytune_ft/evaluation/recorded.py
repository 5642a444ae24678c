"""Stores the scores row by row, which `evaluate` writes and the comparison with a champion reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import read_json, write_text

if TYPE_CHECKING:
    from raytune_ft.objectives.scoring.scores import Scores

_PARTS = ("loss", "tokens", "choice", "expected")


def scores_to_json(scores: Scores) -> dict[str, Any]:
    """Returns one list for each field, null for fields that the scores lack; `more` holds those of an objective."""
    parts = {name: getattr(scores, name) for name in _PARTS}
    plain = {name: None if values is None else values.tolist() for name, values in parts.items()}
    return plain | ({"more": {name: values.tolist() for name, values in scores.more.items()}} if scores.more else {})


def scores_from_json(values: dict[str, Any]) -> Scores:
    """Is the inverse of `scores_to_json`; raises KeyError or ValueError if `values` are not its result."""
    import numpy as np

    from raytune_ft.objectives.scoring.scores import Scores

    kinds = {"loss": np.float64, "tokens": np.int64, "choice": np.int64, "expected": np.int64}
    parts = {name: None if values[name] is None else np.asarray(values[name], kinds[name]) for name in _PARTS}
    if parts["loss"] is None or parts["tokens"] is None:
        raise ValueError("loss or tokens are null")
    more = {name: np.asarray(column, np.float64) for name, column in values.get("more", {}).items()}
    if len({len(part) for part in (*parts.values(), *more.values()) if part is not None}) != 1:
        raise ValueError("its parts differ in length")
    return Scores(**parts, more=more)  # type: ignore[arg-type]


def write_scores(path: Path, adapter_sha256: str, scores: Scores) -> None:
    """Writes the winner's scores with the hash of its weights."""
    write_text(path, json.dumps({"schema": 1, "adapter_sha256": adapter_sha256, **scores_to_json(scores)}) + "\n")


def read_scores(path: Path, adapter_sha256: str) -> Scores:
    """Reads the scores of the weights with this hash.

    Raises:
        IntegrityError: The scores are missing, incomplete, or of other weights.
    """
    again = "run raytune-ft evaluate again"
    if not path.is_file():
        raise IntegrityError(f"{path}: is missing; {again}")
    found = read_json(path)
    try:
        if found["adapter_sha256"] != adapter_sha256:
            raise IntegrityError(f"{path}: was made for other weights than the winner's; {again}")
        return scores_from_json(found)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, IntegrityError):
            raise
        raise IntegrityError(f"{path}: is not what evaluate writes ({error}); {again}") from error
