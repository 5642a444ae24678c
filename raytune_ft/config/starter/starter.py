"""Writes the experiment file of `init`, with the user's model and data and an explanation of every choice."""

from __future__ import annotations

import json
import re
from pathlib import Path

from raytune_ft.config.data import DataFormat, format_of_keys
from raytune_ft.config.methods.choice import DEFAULT, METHODS
from raytune_ft.config.objectives.choice import OBJECTIVES as KINDS
from raytune_ft.config.starter.model_size import size_of
from raytune_ft.config.starter.text import OBJECTIVES, starter_text
from raytune_ft.errors import InputError
from raytune_ft.names import check_name
from raytune_ft.paths import write_text


def write_starter(
    to: Path,
    *,
    name: str | None,
    base_model: str,
    train: Path,
    test: Path | None,
    method: str = DEFAULT,
    objective: str | None = None,
) -> None:
    """Writes a commented experiment file that `load_experiment` reads.

    Without an `objective` it is the first that takes such rows: `sft` for answers, `dpo` for preferences.

    Raises:
        InputError: `to` exists, a data file is missing, its first row has no known format, there is no such method, or
            the objective does not take such rows.
    """
    if to.exists():
        raise InputError(str(to), "already exists", "give another file with --to")
    if method not in METHODS:
        raise InputError("--method", f"{method!r} is unknown", f"use {', '.join(METHODS)}")
    for path in (train, test):
        if path is not None and not path.is_file():
            raise InputError(str(path), "no such file", "give a JSONL file")
    form = _format_of(train)
    fitting = [each for each in OBJECTIVES if KINDS[each].rows == form.rows]
    if objective is not None and objective not in fitting:
        what = f"{objective!r} does not take the rows of {train}, which are {form}"
        raise InputError("--objective", what, f"use {' or '.join(fitting)}, or leave it out")
    text = starter_text(
        file=str(to),
        name=check_name("--name", name) if name else _name_of(train),
        base_model=base_model,
        train=str(train),
        test=str(test) if test else None,
        form=form,
        objective=objective or fitting[0],
        method=method,
        size=size_of(base_model),
    )
    write_text(to, text)


def _name_of(train: Path) -> str:
    plain = re.sub(r"[^a-z0-9-]+", "-", train.name.lower().split(".")[0]).strip("-")
    return plain[:64].strip("-") or "experiment"


def _format_of(train: Path) -> DataFormat:
    with train.open(encoding="utf-8-sig", errors="replace") as stream:
        first = next((line for line in stream if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError as error:
        raise InputError(f"{train}:1", "is not a JSON object", "write one row a line, as JSON") from error
    if isinstance(row, dict) and (found := format_of_keys(row)):
        return found
    keys = sorted(row) if isinstance(row, dict) else type(row).__name__
    remedy = f"write {' or '.join(each.keys for each in DataFormat)}"
    raise InputError(f"{train}:1", f"has {keys}, no known format", remedy)
