"""Builds a portfolio out of earlier studies, for `raytune-ft portfolio build`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raytune_ft.config.files.overrides import value_at
from raytune_ft.config.files.yaml import dump_yaml
from raytune_ft.config.search.portfolio import Entry, PortfolioFile, PortfolioStudy, read_portfolio
from raytune_ft.errors import InputError
from raytune_ft.paths import write_text
from raytune_ft.search.earlier_studies.coverage import Axis, TrialRegret, cover, estimate, nearness, regrets
from raytune_ft.search.earlier_studies.earlier import EarlierStudy, EarlierTrial, read_study
from raytune_ft.training.outcome import OutcomeKind

_HEADER = """\
# Tried in this order by `search.algorithm: {type: portfolio, file: <this file>}`.
# Built by `raytune-ft portfolio build` from the studies named below: each configuration helps the data sets that the
# ones before it serve badly. Regret: 0 is the best trial of the studies on a data set, 1 the median one and worse.
"""
_ALSO = ("method.alpha", "method.use_rslora", "train.gradient_accumulation_steps")
"""Settings that a configuration states even if no study searched them: a learning rate means little without them."""


@dataclass(frozen=True)
class Built:
    """A portfolio, and what its user should know about the studies."""

    portfolio: PortfolioFile
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _DataSet:
    name: str
    points: list[TrialRegret]


def build_portfolio(runs: Sequence[Path], size: int) -> Built:
    """Builds a portfolio of at most `size` configurations of the studies' completed trials.

    Args:
        runs: Run directories of sweeps; those on the same data count as one data set.
        size: How many configurations to choose at most.

    Raises:
        InputError: A directory is not of a sweep, or the studies can't be combined.
        IntegrityError: A file of a study is not whole.
    """
    every = [read_study(run) for run in {run.resolve(): run for run in runs}.values()]
    _check_alike(every)
    studies = [study for study in every if _completed(study)]
    warnings = [f"{study.root}: no trial ran to its end; it is left out" for study in every if study not in studies]
    if not studies:
        raise InputError(str(every[0].root), "no trial ran to its end", "give studies with completed trials")
    keys = list(dict.fromkeys([*(key for study in studies for key in study.parameters), *_ALSO]))
    datasets = _datasets(studies, keys)
    axes = {
        key: Axis.over(
            [point.settings[key] for dataset in datasets for point in dataset.points],
            linear=any({"uniform", "randint"} & (study.parameters.get(key) or {}).keys() for study in studies),
        )
        for key in keys
    }
    candidates = list(
        {
            repr(settings): settings
            for study in studies
            for trial in _completed(study)
            if (settings := _settings(study, trial, keys))
        }.values()
    )
    table = [[estimate(settings, dataset.points, axes) for dataset in datasets] for settings in candidates]
    chosen = cover(table, size, lambda one, other: nearness(candidates[one], candidates[other], axes))
    entries = [
        Entry(
            parameters={key: _short(value) for key, value in candidates[choice.candidate].items()},
            covered=_short(choice.covered),
            helped=None if choice.helped is None else datasets[choice.helped].name,
            regret={
                dataset.name: _short(regret) for dataset, regret in zip(datasets, table[choice.candidate], strict=True)
            },
        )
        for choice in chosen
    ]
    if len(datasets) == 1:
        warnings.append(
            f"only one data set ({datasets[0].name}): these are its best configurations, and nothing is covered"
        )
    portfolio = PortfolioFile(
        metric=studies[0].metric,
        mode="min" if studies[0].mode == "min" else "max",
        objective=studies[0].objective,
        built=datetime.now(UTC).date().isoformat(),
        studies=[_source(study, _name(studies, study)) for study in studies],
        configurations=entries,
    )
    return Built(portfolio, tuple(warnings))


def write_portfolio(portfolio: PortfolioFile, to: Path) -> None:
    """Writes the portfolio, over an earlier one if there is one; raises InputError where `to` is another file."""
    if to.exists():
        try:
            read_portfolio(to)
        except InputError as error:
            raise InputError(str(to), "is there, and is no portfolio", "give another file with --to") from error
    write_text(to, _HEADER + dump_yaml(portfolio.model_dump(mode="json", exclude_none=True)))


def _check_alike(studies: Sequence[EarlierStudy]) -> None:
    first = studies[0]
    for study in studies:
        if not study.fingerprint:
            raise InputError(str(study.root), "has no data/manifest.json, so its data can't be told", "leave it out")
        if study.objective != first.objective:
            what = f"trains for {study.objective}, {first.root} for {first.objective}"
            raise InputError(str(study.root), what, "leave one of them out")
        if (study.metric, study.mode) != (first.metric, first.mode):
            what = f"is about {study.metric} ({study.mode}), {first.root} about {first.metric} ({first.mode})"
            raise InputError(str(study.root), what, "build a portfolio of each")
        if not study.parameters.keys() & first.parameters.keys():
            what = f"searches {', '.join(study.parameters)}, {first.root} {', '.join(first.parameters)}: nothing common"
            raise InputError(str(study.root), what, "build a portfolio of each")


def _completed(study: EarlierStudy) -> list[EarlierTrial]:
    return [each for each in study.trials if each.kind is OutcomeKind.completed and study.best(each) is not None]


def _settings(study: EarlierStudy, trial: EarlierTrial, keys: Sequence[str]) -> dict[str, Any]:
    return {key: study.setting(trial, key) for key in keys}


def _datasets(studies: Sequence[EarlierStudy], keys: Sequence[str]) -> list[_DataSet]:
    """Returns the data sets; regrets are taken within each group of studies of one data set, base model and length.

    Values of different base models or lengths of trials are not comparable.
    """
    groups: dict[tuple[str, str, int], list[tuple[EarlierStudy, EarlierTrial]]] = {}
    for study in studies:
        group = groups.setdefault((study.fingerprint, study.base, _max_steps(study)), [])
        group += [(study, trial) for trial in study.trials]
    datasets: dict[str, _DataSet] = {}
    for (fingerprint, _, _), members in groups.items():
        dataset = datasets.setdefault(fingerprint, _DataSet(_name(studies, members[0][0]), []))
        for (study, trial), regret in zip(members, regrets([_value(*each) for each in members]), strict=True):
            dataset.points.append(TrialRegret(_settings(study, trial, keys), regret))
    return list(datasets.values())


def _value(study: EarlierStudy, trial: EarlierTrial) -> float | None:
    """Returns the trial's best value as a cost (less is better); None if it did not run to its end."""
    best = study.best(trial) if trial.kind is OutcomeKind.completed else None
    return best if best is None or study.mode == "min" else -best


def _max_steps(study: EarlierStudy) -> int:
    return int(value_at(study.experiment, "train.max_steps") or 0)


def _name(studies: Sequence[EarlierStudy], study: EarlierStudy) -> str:
    """Returns a name for the study's data, that no other data set has: its file's name up to the first dot.

    Where two data sets share that, part of the fingerprint is appended.
    """
    plain = _file_name(study)
    others = {_file_name(other) for other in studies if other.fingerprint != study.fingerprint}
    return f"{plain}-{study.fingerprint[:6]}" if plain in others else plain


def _file_name(study: EarlierStudy) -> str:
    return Path(str(value_at(study.experiment, "data.train"))).name.split(".")[0]


def _source(study: EarlierStudy, data: str) -> PortfolioStudy:
    return PortfolioStudy(
        study=str(study.experiment.get("name")),
        data=data,
        fingerprint=study.fingerprint,
        base=study.base,
        max_steps=_max_steps(study),
        trials=len(study.trials),
        completed=len(_completed(study)),
    )


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
