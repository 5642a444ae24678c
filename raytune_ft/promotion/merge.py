"""A winner that becomes a model of its own: `python -m raytune_ft.promotion.merge SPEC RESULT` writes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raytune_ft.config.load import load_recorded, with_parameters
from raytune_ft.data.base_model import TOKENIZER_FILES
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.promotion import child
from raytune_ft.promotion.candidate import Candidate
from raytune_ft.registry.base import base_directory
from raytune_ft.training.tuned import is_adapter, load_tuned

_TIMEOUT_S = 6 * 3600.0  # the base is read and written once; storage may be slow
_KEPT = (*TOKENIZER_FILES, "generation_config.json")


def merge_into(target: Path, candidate: Candidate, say: Callable[[str], None]) -> None:
    """Writes the base with the candidate's adapter in its weights, or the winner's own, into the directory `target`.

    Raises:
        RaytuneError: PEFT can't merge it, or a weight is not finite.
    """
    say("writing the winner's weights" if candidate.facts.full else "merging the adapter into the base's weights")
    spec = {"run": str(candidate.run.root), "winner": str(candidate.source), "target": str(target)}
    child.run_child("raytune_ft.promotion.merge", spec, _TIMEOUT_S, say, "writing the model")


def work(spec: dict[str, Any]) -> Mapping[str, Any]:
    """Spec: `run`, `winner` and `target` (directories).

    The weights have the type that the run computed in. Tokenizer and chat template are the base's, byte for byte.

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
    model.config.use_cache = True  # off was training's setting, and none of the model's
    model.config.name_or_path = ""  # a directory of this machine
    model.save_pretrained(target)
    source = base_directory(experiment.base_model)
    kept = [source / name for name in _KEPT if (source / name).is_file()]
    kept += source.glob("*.py") if experiment.trust_remote_code else []
    for path in kept:
        shutil.copyfile(path, target / path.name)  # a link of the hub's cache becomes a file
    return {}


if __name__ == "__main__":
    child.child_main(work)
