"""The trials that a sampler is shown: the study's own, those that failed or were stopped as ones that count, and
before them the trials of earlier studies."""

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
"""A trial that failed otherwise says nothing of its configuration."""
_CONSTRAINTS = "constraints"  # begins Optuna's keys of them


@dataclass(frozen=True)
class SamplerCapabilities:
    """What a sampler can look at.

    Attributes:
        stopped: PRUNED trials of a study with one goal; others look at COMPLETE ones alone.
        constraints: Whether a trial was feasible.
        generation: Key of the attribute that numbers a trial's generation.
    """

    stopped: bool = False
    constraints: bool = False
    generation: str | None = None


@dataclass(frozen=True)
class ShownTrial:
    """One trial of an earlier study.

    Attributes:
        parameters: Key path -> value, of this study's space.
        distributions: The distributions that they were drawn from.
        costs: One for each goal, less being better; None where the trial diverged.
        step: The last optimizer step that the trial did.
    """

    parameters: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    costs: Costs | None
    step: int


@dataclass(frozen=True)
class ShownStudy:
    """What is shown of an earlier study.

    Attributes:
        points: Its trials.
        comparable: Whether its costs are on this study's scale; else they are laid on it.
    """

    points: tuple[ShownTrial, ...]
    comparable: bool


class SamplerHistory:
    """Shows a study's trials.

    A trial that diverged or ran out of memory is COMPLETE at a bad value, and infeasible; one that the scheduler
    stopped is COMPLETE at what it would have come to (`Peers.at_the_end`), except for samplers that know PRUNED.

    Args:
        goals: The study's goals, the leading one first.
        sight: What the sampler can look at.
        earlier: Shown before the study's own trials, whose numbers follow theirs.
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
        """Whether the sampler makes new trials out of old ones."""
        return self._sight.generation is not None

    def trials(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """What stands for `trials`, all of the study's in order."""
        finished = [trial for trial in trials if trial.state.is_finished()]
        if len(finished) != self._known:  # what is finished does not change
            self._look(finished)
            self._known = len(finished)
        return [*self._before, *(self._finished.get(trial.number) or self.own(trial) for trial in trials)]

    def own(self, trial: FrozenTrial) -> FrozenTrial:
        """One of the study's trials, under the number that it is shown by."""
        if not self._shift:
            return trial
        shown = copy.copy(trial)
        shown.number = trial.number + self._shift
        return shown

    def without_constraints(self, trial: FrozenTrial) -> FrozenTrial:
        """`trial`, as samplers want it that take no constraints."""
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
        """Of trials that the sampler did not propose: starting points, and those of earlier studies."""
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
            trial_id=-2 - number,  # no trial of the storage's; a genetic sampler knows parents by it
        )
        return trial

    def _stopped(self, trial: FrozenTrial, peers: Peers) -> Costs | None:
        last, end = trial.user_attrs.get(VALUES_ATTRIBUTE, {}), trial.params.get(STEPS)
        return peers.costs_at_the_end(self._costs(trial), last, self._goals, end)

    def _costs(self, trial: FrozenTrial) -> dict[int, float]:
        """Its curve of the first goal; Optuna keeps none in studies of several."""
        curve = trial.intermediate_values or dict(trial.user_attrs.get(CURVE_ATTRIBUTE, ()))
        return {int(step): self._signs[0] * value for step, value in curve.items() if math.isfinite(value)}

    def _laid(self, own: Sequence[Costs]) -> list[Costs | None]:
        """The costs of all earlier trials on the scale of `own`."""
        known = [[point.costs for point in each.points if point.costs] for each in self._earlier]
        pairs = list(zip(self._earlier, known, strict=True))
        onto = [*own, *(costs for each, its in pairs if each.comparable for costs in its)]
        laid: list[Costs | None] = []
        for each, its in pairs:
            following = iter(its if each.comparable else lay(its, onto))
            laid += [next(following) if point.costs else None for point in each.points]
        return laid

    def _signed(self, values: Sequence[float]) -> list[float]:
        """Values as costs, or costs as values."""
        return [its * value for its, value in zip(self._signs, values, strict=True)]


def _feasible(trial: FrozenTrial) -> dict[str, Any]:
    return {key: value for key, value in trial.system_attrs.items() if not key.startswith(_CONSTRAINTS)}
