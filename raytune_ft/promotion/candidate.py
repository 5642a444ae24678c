"""Reads what a run offers for promotion: its winner, and the evaluation of exactly these weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raytune_ft.config.experiment import Evaluate, Experiment
from raytune_ft.config.files.overrides import METHOD
from raytune_ft.config.load import load_recorded
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.methods.rooms import ROOMS
from raytune_ft.methods.weights.adapter_check import AdapterFacts
from raytune_ft.methods.weights.base_weights import base_id, base_sha256
from raytune_ft.methods.weights.tuned import tuned_sha256
from raytune_ft.objectives.rooms import room
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.promotion.gates import Verdict
from raytune_ft.promotion.judged import rows_of


@dataclass(frozen=True)
class Candidate:
    """The winner of a run, with complete and evaluated files.

    Attributes:
        run: The run directory.
        experiment: The resolved experiment, with the `evaluate` settings with which the winner was scored.
        winner: Contents of winner.json.
        evaluation: Contents of evaluation.json.
        data: Contents of data/manifest.json.
        source: Directory of the winner's adapter, or of its complete model.
        facts: Facts about the adapter.
        merge: Whether it is promoted as a complete model, merged into the base.
        adapter_sha256: Hash of its weights.
        method: The method that it was trained by.
    """

    run: RunDirectory
    experiment: Experiment
    winner: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    data: Mapping[str, Any]
    source: Path
    facts: AdapterFacts
    merge: bool
    adapter_sha256: str
    method: str

    @property
    def adapter(self) -> str:
        return self.experiment.adapter_name

    @property
    def test_rows(self) -> int:
        return rows_of(self.run.evaluation, self.evaluation)


def read_candidate(run: RunDirectory, merge: bool = False) -> tuple[Candidate, list[Verdict]]:
    """Reads and checks the winner of a run; returns it with the verdicts of the gates `files` and `format`.

    Args:
        run: The run directory.
        merge: Merge the winner into the base even if the experiment does not say so.

    Raises:
        InputError: The run has no winner or no evaluation yet.
        IntegrityError: The adapter is broken, or the evaluation is of other weights.
        RaytuneError: The adapter has another base, or can't be served.
    """
    winner = _mapping(run.winner, "run the sweep first; a sweep whose trials all failed leaves no winner")
    if lacks := sorted({"adapter", "base_model", "trial", "step", "data_fingerprint"} - winner.keys()):
        raise IntegrityError(f"{run.winner}: lacks {lacks[0]}; run the sweep again")
    experiment = load_recorded(run)
    room(experiment.objective)  # a trainer of the user's own makes what no gate knows
    source = _winner_directory(run, winner)
    how = "always" if merge else experiment.promotion.merge
    method = winner.get("parameters", {}).get(METHOD) or experiment.method.type
    facts = ROOMS[method].check(source, experiment.base_model, may_be_merged=how != "never")
    merged = how == "always" or facts.unserved is not None or facts.full
    if base_id(str(winner["base_model"])) != base_id(experiment.base_model):
        raise RaytuneError(
            f"{run.winner}: base_model {winner['base_model']!r} is not {experiment.base_model!r} of {run.experiment}"
        )
    evaluation = _mapping(run.evaluation, f"run: raytune-ft evaluate {run.root}")
    digest = tuned_sha256(source)
    _check_same_winner(run, winner, evaluation, source, digest)
    experiment = _as_evaluated(run, experiment, evaluation)
    data = _mapping(run.data / "manifest.json", "run the sweep again")
    verdicts = [
        Verdict("files", True, f"whole, and the weights that were evaluated (sha256 {digest[:12]})"),
        Verdict("format", True, _format(facts, merged)),
    ]
    return Candidate(run, experiment, winner, evaluation, data, source, facts, merged, digest, method), verdicts


def _format(facts: AdapterFacts, merged: bool) -> str:
    if facts.full:
        return "a whole model in safetensors, with the base's tensors"
    shown = f"LoRA of rank {facts.lora_rank} in safetensors"
    if not merged:
        return f"{shown}, with nothing that vLLM can't load"
    return f"{shown}, merged into the base" + (f": {facts.unserved}" if facts.unserved else "")


def same_base(candidate: Candidate) -> tuple[Verdict, str]:
    """Checks that the base's weights are those of the run's training and evaluation; returns verdict and hash."""
    now = base_sha256(candidate.experiment.base_model)
    recorded = {
        "trained": candidate.winner.get("base_sha256"),
        "evaluated": candidate.evaluation["winner"].get("base_sha256"),
    }
    for step, digest in recorded.items():
        if digest not in (None, now):
            reason = f"the run was {step} on weights of sha256 {digest[:12]}, {candidate.experiment.base_model} has "
            return Verdict("base", False, f"{reason}{now[:12]}; put them back, or run it again"), now
    if recorded["trained"] is None:
        reason = "by its name and its tensors' shapes; the run recorded no hash of its weights"
    else:
        reason = f"the weights that it was trained on (sha256 {now[:12]})"
    return Verdict("base", True, reason, {"base_sha256": now}), now


def _as_evaluated(run: RunDirectory, experiment: Experiment, evaluation: Mapping[str, Any]) -> Experiment:
    """Restores the `evaluate` settings with which the winner was scored; --set may have changed them since."""
    try:
        settings = Evaluate.model_validate(evaluation.get("settings", experiment.evaluate))
    except ValidationError as error:
        raise IntegrityError(f"{run.evaluation}: settings are not what evaluate writes; run it again") from error
    return experiment.model_copy(update={"evaluate": settings})


def _mapping(path: Path, remedy: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(str(path), "is missing", remedy)
    value = read_json(path)
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: must be a JSON object; run the step again")
    return value


def _winner_directory(run: RunDirectory, winner: Mapping[str, Any]) -> Path:
    """Returns the directory of the winner's adapter; refuses a path outside the run."""
    root = run.root.resolve()
    path = (root / str(winner["adapter"])).resolve()
    if not path.is_relative_to(root):
        raise IntegrityError(f"{run.winner}: adapter {winner['adapter']!r} lies outside the run; run the sweep again")
    if not path.is_dir():
        raise IntegrityError(f"{run.winner}: adapter {winner['adapter']!r} is missing; run the sweep again")
    return path


def _check_same_winner(
    run: RunDirectory, winner: Mapping[str, Any], evaluation: Mapping[str, Any], source: Path, digest: str
) -> None:
    evaluated = evaluation.get("winner") or {}
    again = f"run: raytune-ft evaluate {run.root}"
    if (evaluated.get("trial"), evaluated.get("step")) != (winner["trial"], winner["step"]):
        raise IntegrityError(
            f"{run.evaluation}: was made for trial {evaluated.get('trial')} at step {evaluated.get('step')}, "
            f"the winner is trial {winner['trial']} at step {winner['step']}; {again}"
        )
    if evaluated.get("adapter_sha256") != digest:
        raise IntegrityError(f"{run.evaluation}: was made for other weights than those in {source}; {again}")
