"""The winner of a run becomes a version that is served: only if it is whole, its own, and better than the base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.paths import RunDirectory, read_json, sha256_file
from raytune_ft.registry.adapter import WEIGHTS_NAME, check_adapter
from raytune_ft.registry.add import Provenance, add_version
from raytune_ft.registry.base import base_id
from raytune_ft.registry.card import CardFacts
from raytune_ft.registry.store import CHAMPION, Registry


@dataclass(frozen=True)
class Gain:
    """The winner's difference to the base on one metric, with its interval."""

    metric: str
    mean: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the whole interval lies on the better side of zero: below for `loss`, above for the others."""
        return self.high < 0 if self.metric == "loss" else self.low > 0

    def __str__(self) -> str:
        return f"{self.metric} {self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Promotion:
    """What a promotion did."""

    adapter: str
    version: int
    alias: str
    previous: int | None
    path: Path
    gain: Gain
    forced: bool


def promote(
    run: RunDirectory,
    registry: Registry,
    *,
    alias: str = CHAMPION,
    require_gain: bool = True,
    command: str | None = None,
) -> Promotion:
    """Adds the winner of `run` to `registry` and moves `alias` to it.

    Raises:
        InputError: The run has no winner or no evaluation yet.
        IntegrityError: The adapter is broken, or the evaluation was made for other weights.
        RaytuneError: The adapter is of another base, can't be served, or no gain over the base is shown.
    """
    winner = _mapping(run.winner, "run the sweep first; a sweep whose trials all failed leaves no winner")
    experiment = load_experiment(run.experiment)
    source = _winner_directory(run, winner)
    check_adapter(source, experiment.base_model)
    if base_id(str(winner["base_model"])) != base_id(experiment.base_model):
        raise RaytuneError(
            f"{run.winner}: base_model {winner['base_model']!r} is not {experiment.base_model!r} of {run.experiment}"
        )
    evaluation = _mapping(run.evaluation, f"run: raytune-ft evaluate {run.root}")
    _check_same_winner(run, winner, evaluation, source)
    gain = _gain(run.evaluation, evaluation)
    forced = not gain.shown
    if forced and require_gain:
        raise RaytuneError(
            f"{run.evaluation}: no gain over the base is shown: {gain}; the champion stays; --force promotes it anyway"
        )
    data = _mapping(run.data / "manifest.json", "run the sweep again")
    provenance = Provenance(
        base_model=experiment.base_model,
        data_fingerprint=str(winner["data_fingerprint"]),
        form=data["form"],
        template_sha256=data.get("template_sha256"),
        study=str(winner["experiment"]),
        trial=str(winner["trial"]),
        metrics={"systems": evaluation["systems"], "difference": evaluation["difference"]},
        command=command or f"raytune-ft promote {_as_typed(run.root)}" + (" --force" if forced else ""),
        forced=forced,
    )
    version = add_version(registry, experiment.adapter_name, source, provenance, _card_facts(winner, evaluation, data))
    previous = registry.set_alias(experiment.adapter_name, alias, version)
    path = registry.path(experiment.adapter_name, version)
    return Promotion(experiment.adapter_name, version, alias, previous, path, gain, forced)


def adapter_of(run: RunDirectory) -> str:
    """The adapter's name that the run's experiment gives."""
    return load_experiment(run.experiment).adapter_name


def _as_typed(path: Path) -> str:
    """The path below the working directory, as a user types it; what lies above is nobody's business."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name if path.is_absolute() else str(path)


def _mapping(path: Path, remedy: str) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(str(path), "is missing", remedy)
    value = read_json(path)
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: must be a JSON object; run the step again")
    return value


def _winner_directory(run: RunDirectory, winner: Mapping[str, Any]) -> Path:
    """The winner's adapter; winner.json can't point out of its run."""
    root = run.root.resolve()
    path = (root / str(winner["adapter"])).resolve()
    if not path.is_relative_to(root):
        raise IntegrityError(f"{run.winner}: adapter {winner['adapter']!r} lies outside the run; run the sweep again")
    if not path.is_dir():
        raise IntegrityError(f"{run.winner}: adapter {winner['adapter']!r} is missing; run the sweep again")
    return path


def _check_same_winner(
    run: RunDirectory, winner: Mapping[str, Any], evaluation: Mapping[str, Any], source: Path
) -> None:
    evaluated = evaluation.get("winner") or {}
    again = f"run: raytune-ft evaluate {run.root}"
    if (evaluated.get("trial"), evaluated.get("step")) != (winner["trial"], winner["step"]):
        raise IntegrityError(
            f"{run.evaluation}: was made for trial {evaluated.get('trial')} at step {evaluated.get('step')}, "
            f"the winner is trial {winner['trial']} at step {winner['step']}; {again}"
        )
    if evaluated.get("adapter_sha256") != sha256_file(source / WEIGHTS_NAME):
        raise IntegrityError(f"{run.evaluation}: was made for other weights than {source / WEIGHTS_NAME}; {again}")


def _gain(path: Path, evaluation: Mapping[str, Any]) -> Gain:
    """The difference on the first metric that isn't the loss, or on the loss."""
    differences: dict[str, dict[str, float]] = evaluation.get("difference") or {}
    metric = next((name for name in evaluation.get("metrics", []) if name != "loss" and name in differences), "loss")
    if metric not in differences:
        raise IntegrityError(f"{path}: has no difference of base and winner; run evaluate again")
    found = differences[metric]
    return Gain(metric, float(found["mean"]), float(found["low"]), float(found["high"]))


def _card_facts(winner: Mapping[str, Any], evaluation: Mapping[str, Any], data: Mapping[str, Any]) -> CardFacts:
    return CardFacts(
        rows={name: int(split["rows"]) for name, split in data.get("splits", {}).items()},
        duplicates=data.get("duplicates") or {},
        parameters=winner.get("parameters") or {},
        test_rows=evaluation.get("rows"),
    )
