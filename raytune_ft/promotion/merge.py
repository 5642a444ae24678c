"""Merges a winner into its base: `python -m raytune_ft.promotion.merge SPEC RESULT` writes the complete model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raytune_ft.config.load import load_recorded, with_parameters
from raytune_ft.data.base_model import TOKENIZER_FILES
from raytune_ft.methods.weights.base_weights import base_directory
from raytune_ft.methods.weights.tuned import is_adapter, load_tuned
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.promotion import child
from raytune_ft.promotion.candidate import Candidate

_TIMEOUT_S = 6 * 3600.0  # the base is read and written once; storage may be slow
_KEPT = (*TOKENIZER_FILES, "generation_config.json")


def merge_into(target: Path, candidate: Candidate, say: Callable[[str], None]) -> None:
    """Writes the candidate as a complete model into the directory `target`: merged into the base, or fully fine-tuned.

    Raises:
        RaytuneError: PEFT can't merge it, or a weight is not finite.
    """
    say("writing the winner's weights" if candidate.facts.full else "merging the adapter into the base's weights")
    spec = {"run": str(candidate.run.root), "winner": str(candidate.source), "target": str(target)}
    child.run_child("raytune_ft.promotion.merge", spec, _TIMEOUT_S, say, "writing the model")


def work(spec: dict[str, Any]) -> Mapping[str, Any]:
    """Writes the complete model.

    The weights have the number type that the run computed in. Tokenizer and chat template are copied from the base.

    Args:
        spec: The directories `run`, `winner` and `target`.

    Raises:
        ValueError: A weight is missing or not finite.
    """
    run, target = RunDirectory(Path(spec["run"])), Path(spec["target"])
    experiment = with_parameters(load_recorded(run), read_json(run.winner)["parameters"])
    model = load_tuned(experiment, Path(spec["winner"]))
    if is_adapter(Path(spec["winner"])):
        model = model.merge_and_unload(safe_merge=True)
    elif bad := [name for name, weight in model.named_parameters() if not weight.isfinite().all()]:
        raise ValueError(f"{bad[0]} is not finite")
    model.config.use_cache = True  # training had switched it off
    model.config.name_or_path = ""  # it would hold a path of this machine
    model.save_pretrained(target)
    source = base_directory(experiment.base_model)
    kept = [source / name for name in _KEPT if (source / name).is_file()]
    kept += source.glob("*.py") if experiment.trust_remote_code else []
    for path in kept:
        shutil.copyfile(path, target / path.name)  # the hub's cache holds links; the copy is a file
    return {}


if __name__ == "__main__":
    child.child_main(work)
