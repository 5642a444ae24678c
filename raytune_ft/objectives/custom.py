"""A user's own training function: loads it, and fingerprints what it reads."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.objectives.custom import Custom
from raytune_ft.data.prepared import MANIFEST, SCHEMA, PreparedData, open_prepared
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.paths import read_json, sha256_file, write_json

Train = Callable[[Mapping[str, Any], Mapping[str, Any], Callable[..., None], str | None], object]
"""`train(settings, data, report, checkpoint)`: docs/custom.md."""


def load_trainer(objective: Custom) -> Train:
    """Imports the trainer's file, beside which it finds its own modules, and returns the function.

    Raises:
        RaytuneError: The file can't be imported, or lacks the function.
    """
    path = Path(objective.file).resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    known = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    taken = known is not None and Path(known.origin or "") != path  # such as torch.py
    name = f"trainer_{path.stem}" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RaytuneError(f"objective.trainer: {path} can't be imported; give a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what it pickles, or hands to its own workers, is found again
    spec.loader.exec_module(module)
    train: Train | None = getattr(module, objective.function, None)
    if not callable(train):
        raise RaytuneError(f"objective.trainer: {path} has no function {objective.function}; name one that it has")
    return train


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Returns what a trainer is told: its own settings, `seed`, `max_steps`, and the steps at which to report."""
    objective = experiment.objective
    assert isinstance(objective, Custom)
    told = {"seed": experiment.seed, "max_steps": experiment.train.max_steps}
    return {**told, "report_steps": list(experiment.report_steps()), **objective.settings}


def data_of(experiment: Experiment) -> dict[str, Any]:
    """Returns `train`, `validation` and `test` of the `data` section as written; None where nothing is."""
    values = {name: getattr(experiment.data, name) for name in ("train", "validation", "test")}
    return {name: value if isinstance(value, str) and value else None for name, value in values.items()}


def remember(experiment: Experiment, target: Path, *, in_use: bool = False) -> PreparedData:
    """Records the trainer and its data files in `target`, as `prepare` does rows, without reading any.

    Raises:
        InputError: Trials ran with another trainer or other data.
    """
    objective = experiment.objective
    assert isinstance(objective, Custom)
    files = {"objective.trainer": objective.file}
    files |= {f"data.{name}": value for name, value in data_of(experiment).items() if isinstance(value, str)}
    hashes = {key: sha256_file(Path(path)) for key, path in files.items() if Path(path).is_file()}
    fingerprint = hashlib.sha256(json.dumps([hashes, objective.function], sort_keys=True).encode()).hexdigest()
    if (target / MANIFEST).is_file() and in_use:
        before = read_json(target / MANIFEST)
        if before["fingerprint"] != fingerprint:
            changed = [key for key, sha256 in hashes.items() if before["sources"].get(key) != sha256]
            what = f"was started with another {' and '.join(changed) or 'function'}"
            raise InputError(str(target.parent), what, "put it back, or change `name`")
    target.mkdir(parents=True, exist_ok=True)
    form = experiment.data.format.value
    write_json(
        target / MANIFEST,
        {
            "schema": SCHEMA, "fingerprint": fingerprint, "form": form, "template_sha256": None, "splits": {},
            "duplicates": {}, "warnings": [], "files": {}, "sources": hashes,
        },
    )  # fmt: skip
    return open_prepared(target)
