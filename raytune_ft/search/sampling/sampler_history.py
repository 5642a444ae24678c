"""The trials that a sampler is shown: those of earlier studies, then the study's own. Those that failed or were stopped
are turned into ones that the sampler learns from."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from raytune_ft.config.search.goals import Metric
from raytune_ft.config.search.search import STEPS
from raytune_ft.metrics.named import sign
from raytune_ft.search.sampling.attributes import CURVE_ATTRIBUTE, OUTCOME_ATTRIBUTE, STEP_ATTRIBUTE, VALUES_ATTRIBUTE
from raytune_ft.search.sampling.fidelity import Peers, Whole, failed, violation
from raytune_ft.search.sampling.scale import Costs, lay
from raytune_ft.training.outcome import OutcomeKind

INFEASIBLE = (OutcomeKind.diverged, OutcomeKind.out_of_memory)
"""Failures that the configuration explains; one of another kind says nothing about it."""
_CONSTRAINTS = "constraints"  # prefix of Optuna's keys of constraints


@dataclass(frozen=True)
class SamplerCapabilities:
    """The kinds of trials and attributes that a sampler takes into account.

    Attributes:
        stopped: Whether it learns from PRUNED trials of a study with one goal; others learn from COMPLETE ones alone.
        constraints: Whether it heeds constraints, which say that a trial was infeasible.
        generation: Key of the attribute with the number of a trial's generation; None for samplers without generations.
    """

    stopped: bool = False
    constraints: bool = False
    generation: str | None = None


@dataclass(frozen=True)
class ShownTrial:
    """One trial of an earlier study, as a sampler is shown it.

    Attributes:
        parameters: Key path -> value, in this study's space.
        distributions: Key path -> Optuna's distribution that the value counts as drawn from.
        costs: One cost for each goal, less being better; None where the trial diverged.
        step: The last optimizer step that the trial did.
    """

    parameters: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    costs: Costs | None
    step: int


@dataclass(frozen=True)
class ShownStudy:
    """An earlier study, as a sampler is shown it.

    Attributes:
        points: Its trials.
        comparable: Whether its costs are on this study's scale already; if not, they are rescaled to it (`scale.lay`).
    """

    points: tuple[ShownTrial, ...]
    comparable: bool


class SamplerHistory:
    """Turns a study's trials into the ones that a sampler is shown.

    A trial that diverged or ran out of memory is shown as COMPLETE at a bad value, and infeasible; one that the
    scheduler stopped as COMPLETE at its estimated final value (`Peers.at_the_end`), except to samplers that learn from
    PRUNED trials.

    Args:
        goals: The study's goals, the leading one first.
        sight: What the sampler takes into account.
        earlier: Earlier studies; their trials come first, and the study's own trials get the numbers after theirs.
    """

    def __init__(self, goals: Sequence[Metric], sight: SamplerCapabilities, earlier: Sequence[ShownStudy] = ()) -> None:
        self._goals, self._sight, self._earlier = goals, sight, earlier
        self._signs = [sign(goal) for goal in goals]
        self._shift = sum(len(each.points) for each in earlier)
        self._before: list[FrozenTrial] = []
        self._finished: dict[int, FrozenTrial] = {}
        self._known = -1

    @property
    def genetic(self) -> bool:
        """Whether the sampler is a genetic one, which makes new configurations out of old trials' ones."""
        return self._sight.generation is not None

    def trials(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Returns the trials to show for `trials`, which are all of the study's in order."""
        finished = [trial for trial in trials if trial.state.is_finished()]
        if len(finished) != self._known:  # finished trials do not change
            self._look(finished)
            self._known = len(finished)
        return [*self._before, *(self._finished.get(trial.number) or self.own(trial) for trial in trials)]

    def own(self, trial: FrozenTrial) -> FrozenTrial:
        """Returns one of the study's trials under its shown number, which follows those of earlier trials."""
        if not self._shift:
            return trial
        shown = copy.copy(trial)
        shown.number = trial.number + self._shift
        return shown

    def without_constraints(self, trial: FrozenTrial) -> FrozenTrial:
        """Returns `trial` without its constraints, if the sampler does not take any."""
        if self._sight.constraints or not trial.constraints:
            return trial
        shown = copy.copy(trial)
        shown.system_attrs = _feasible(trial)
        return shown

    def _look(self, finished: Sequence[FrozenTrial]) -> None:
        whole = [trial for trial in finished if trial.state is TrialState.COMPLETE]
        costs = {trial.number: tuple(self._signed(trial.values or ())) for trial in whole}
        peers = Peers([Whole(self._costs(trial), costs[trial.number][0]) for trial in whole])
        for trial in finished:
            if trial.state is TrialState.PRUNED and (stopped := self._stopped(trial, peers)):
                costs[trial.number] = stopped
        laid = self._laid(list(costs.values()))
        known = [*costs.values(), *(each for each in laid if each)]
        columns = list(zip(*known, strict=True)) or [()] * len(self._goals)

        def bad(step: int) -> Costs:
            return tuple(failed(column, step) for column in columns)

        self._finished = {trial.number: self._shown(trial, costs.get(trial.number), bad) for trial in finished}
        points = [point for earlier in self._earlier for point in earlier.points]
        self._before = [
            self._from_before(number, point, its or bad(point.step))
            for number, (point, its) in enumerate(zip(points, laid, strict=True))
        ]

    def _shown(self, trial: FrozenTrial, costs: Costs | None, bad: Callable[[int], Costs]) -> FrozenTrial:
        own = self.own(trial)
        if trial.state is TrialState.FAIL and trial.user_attrs.get(OUTCOME_ATTRIBUTE) in INFEASIBLE:
            step = int(trial.user_attrs.get(STEP_ATTRIBUTE, 0))
            return self._complete(own, bad(step), self._violated(step))
        if trial.state is TrialState.PRUNED and costs and not (self._sight.stopped and len(self._goals) == 1):
            return self._complete(own, costs, {})
        if trial.state is TrialState.COMPLETE and self._sight.generation and costs:
            return self._complete(own, costs, {})
        return own

    def _complete(self, trial: FrozenTrial, costs: Costs, violated: dict[str, float]) -> FrozenTrial:
        shown = copy.copy(trial)
        shown.state = TrialState.COMPLETE
        shown.values = self._signed(costs)
        shown.system_attrs = self._first_generation() | _feasible(trial) | violated
        return shown

    def _first_generation(self) -> dict[str, int]:
        """Returns the attribute that puts a trial into generation 0, as the sampler did not propose it."""
        return {self._sight.generation: 0} if self._sight.generation else {}

    def _violated(self, step: int) -> dict[str, float]:
        return {f"{_CONSTRAINTS}:trains": violation(step)} if self._sight.constraints else {}

    def _from_before(self, number: int, point: ShownTrial, costs: Sequence[float]) -> FrozenTrial:
        trial = FrozenTrial(
            number=number,
            state=TrialState.COMPLETE,
            value=None,
            values=self._signed(costs),
            datetime_start=None,
            datetime_complete=None,
            params=dict(point.parameters),
            distributions=dict(point.distributions),
            user_attrs={},
            system_attrs=self._first_generation() | (self._violated(point.step) if point.costs is None else {}),
            intermediate_values={},
            trial_id=-2 - number,  # an id that the storage does not use; a genetic sampler identifies parents by it
        )
        return trial

    def _stopped(self, trial: FrozenTrial, peers: Peers) -> Costs | None:
        last, end = trial.user_attrs.get(VALUES_ATTRIBUTE, {}), trial.params.get(STEPS)
        return peers.costs_at_the_end(self._costs(trial), last, self._goals, end)

    def _costs(self, trial: FrozenTrial) -> dict[int, float]:
        """Returns the trial's costs of the first goal by step; with several goals they are in a user attribute."""
        curve = trial.intermediate_values or dict(trial.user_attrs.get(CURVE_ATTRIBUTE, ()))
        return {int(step): self._signs[0] * value for step, value in curve.items() if math.isfinite(value)}

    def _laid(self, own: Sequence[Costs]) -> list[Costs | None]:
        """Returns the costs of all earlier trials on the scale of `own`; None for those that diverged."""
        known = [[point.costs for point in each.points if point.costs] for each in self._earlier]
        pairs = list(zip(self._earlier, known, strict=True))
        onto = [*own, *(costs for each, its in pairs if each.comparable for costs in its)]
        laid: list[Costs | None] = []
        for each, its in pairs:
            following = iter(its if each.comparable else lay(its, onto))
            laid += [next(following) if point.costs else None for point in each.points]
        return laid

    def _signed(self, values: Sequence[float]) -> list[float]:
        """Turns values into costs, or costs into values, by the goals' signs."""
        return [its * value for its, value in zip(self._signs, values, strict=True)]


def _feasible(trial: FrozenTrial) -> dict[str, Any]:
    return {key: value for key, value in trial.system_attrs.items() if not key.startswith(_CONSTRAINTS)}
