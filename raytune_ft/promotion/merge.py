"""A winner that becomes a model of its own: `python -m raytune_ft.promotion.merge SPEC RESULT` writes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raytune_ft.config.load import load_experiment, with_parameters
from raytune_ft.data.base_model import TOKENIZER_FILES
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.promotion import child
from raytune_ft.promotion.candidate import Candidate
from raytune_ft.registry.base import base_directory
from raytune_ft.training.base_model import load_base

_TIMEOUT_S = 6 * 3600.0  # the base is read and written once; storage may be slow
_KEPT = (*TOKENIZER_FILES, "generation_config.json")


def merge_into(target: Path, candidate: Candidate, say: Callable[[str], None]) -> None:
    """Writes the base with the candidate's adapter in its weights into the directory `target`.

    Raises:
        RaytuneError: PEFT can't merge it.
    """
    say("merging the adapter into the base's weights")
    spec = {"run": str(candidate.run.root), "winner": str(candidate.source), "target": str(target)}
    child.run_child("raytune_ft.promotion.merge", spec, _TIMEOUT_S, say, "merging")


def work(spec: dict[str, Any]) -> Mapping[str, Any]:
    """Spec: `run`, `winner` and `target` (directories).

    The weights have the type that the run was trained in. Tokenizer and chat template are the base's, byte for byte.

    Raises:
        ValueError: A merged weight is not finite.
    """
    from peft import PeftModel

    run, target = RunDirectory(Path(spec["run"])), Path(spec["target"])
    experiment = with_parameters(load_experiment(run.experiment), read_json(run.winner)["parameters"])
    base = load_base(experiment)
    cached = base.generation_config.use_cache if base.generation_config else True
    model = PeftModel.from_pretrained(base, spec["winner"]).merge_and_unload(safe_merge=True)
    model.config.use_cache = cached  # training's setting, and none of the model's
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
