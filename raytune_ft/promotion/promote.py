"""Promotes the winner of a run: runs the gates, the cheapest first, then adds a version to the registry."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.config.data import DataFormat
from raytune_ft.config.load import load_recorded, with_parameters
from raytune_ft.errors import RaytuneError
from raytune_ft.evaluation.uses import Use, Uses, note_use, read_uses
from raytune_ft.objectives.rooms import room
from raytune_ft.paths import RunDirectory
from raytune_ft.promotion.candidate import Candidate, read_candidate, same_base
from raytune_ft.promotion.engines import Engines
from raytune_ft.promotion.gates import Gates
from raytune_ft.promotion.judged import Gain, gain_of, judge_gain, judge_retention
from raytune_ft.promotion.merge import merge_into
from raytune_ft.promotion.parity import check_engine_is_there
from raytune_ft.registry.add import Placing, Provenance, add_staged
from raytune_ft.registry.card import CardFacts
from raytune_ft.registry.compared import ChampionMovedError
from raytune_ft.registry.journal import Move
from raytune_ft.registry.staging import StagedAdapter, staged, staged_model
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import CHAMPION

if TYPE_CHECKING:
    from raytune_ft.serving.local.session import Endpoint

_COMPARISONS = 5
"""Most comparisons in one promotion, which compares again each time that the champion changes meanwhile."""


@dataclass(frozen=True)
class Promotion:
    """The result of a promotion."""

    adapter: str
    version: int
    alias: str
    previous: int | None
    path: Path
    gain: Gain
    forced: bool
    gates: dict[str, Any] = field(default_factory=dict)


def promote(
    run: RunDirectory,
    registry: Registry,
    *,
    alias: str = CHAMPION,
    merge: bool = False,
    force: bool = False,
    skip: Collection[str] = (),
    command: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    endpoint: Callable[[], Endpoint] | None = None,
) -> Promotion:
    """Adds the winner of `run` to `registry` and moves `alias` to it.

    Args:
        run: The run directory.
        registry: The registry to add it to; nothing that it lists changes before all gates have passed.
        alias: `champion` or `challenger`.
        merge: Merge the winner into the base's weights; otherwise the experiment's `promotion.merge` decides.
        force: Go on if the gates `gain`, `retention` or `no_worse` refuse.
        skip: Gates that are not run; manifest, card and journal record that.
        command: The command that the card names; by default the plain command.
        say: Receives progress lines for the user.
        endpoint: Returns a running endpoint, whose engine the gate parity asks instead of starting one.

    Raises:
        InputError: The run has no winner or no evaluation yet, or vLLM is missing.
        IntegrityError: The adapter is broken, or the evaluation is of other weights.
        GateRefusedError: A gate refused.
        RaytuneError: The adapter has another base, can't be served, or the champion kept changing.
    """
    candidate, verdicts = read_candidate(run, merge)
    settings = candidate.experiment.promotion
    gates = Gates(str(run.root), settings, skip, force, say)
    if gates.wanted("parity"):
        check_engine_is_there()
    for verdict in verdicts:
        gates.take(verdict)
    base, base_sha256 = same_base(candidate)
    gates.take(base)
    uses = _count_use(candidate, registry, alias, gates)
    gain = gain_of(run.evaluation, candidate.evaluation)
    if gates.wanted("gain"):
        gates.take(judge_gain(gain, candidate.test_rows, settings.min_rows))
    else:
        gates.leave_out("gain")
    if settings.retention is not None and gates.wanted("retention"):
        gates.take(judge_retention(run.evaluation, candidate.evaluation, settings.retention))
    else:
        gates.leave_out("retention")
    with _copied(candidate, registry, say) as copy:
        engines = Engines(candidate, copy, base_sha256, gain.metric, say, endpoint)
        for again in range(_COMPARISONS):
            if again:  # compared with another champion, which counts as another use of the test split
                uses = _count_use(candidate, registry, alias, gates)
            compared = engines.judge_again(registry, gates) if again else engines.judge(registry, gates)
            facts = _card_facts(candidate, uses)
            typed = command or _typed(candidate, alias, merge, skip, gates.forced)
            provenance = _provenance(candidate, gates, typed)
            move = Move(action="promote", command=typed, gates=provenance.gates, forced=provenance.forced)
            placing = Placing(alias, move, compared)
            try:
                added = add_staged(registry, candidate.adapter, copy, provenance, base_sha256, facts, placing)
                break
            except ChampionMovedError:
                continue
        else:
            what = f"the champion moved {_COMPARISONS} times while the run was compared with it"
            raise RaytuneError(f"{candidate.adapter}: {what}; nothing was promoted; promote when nobody else does")
    path = registry.path(candidate.adapter, added.version)
    return Promotion(
        candidate.adapter, added.version, alias, added.previous, path, gain, provenance.forced, provenance.gates
    )


def _copied(
    candidate: Candidate, registry: Registry, say: Callable[[str], None]
) -> AbstractContextManager[StagedAdapter]:
    """Returns the staged copy of what would be served."""
    if candidate.merge:
        return staged_model(registry, candidate.adapter, candidate.facts, lambda path: merge_into(path, candidate, say))
    return staged(registry, candidate.adapter, candidate.source, candidate.experiment.base_model)


def adapter_of(run: RunDirectory) -> str:
    """Returns the adapter's name in the run's experiment."""
    return load_recorded(run).adapter_name


def _provenance(candidate: Candidate, gates: Gates, command: str) -> Provenance:
    winner, evaluation, data = candidate.winner, candidate.evaluation, candidate.data
    return Provenance(
        base_model=candidate.experiment.base_model,
        data_fingerprint=str(winner["data_fingerprint"]),
        form=DataFormat(data["form"]).served_as,
        template_sha256=data.get("template_sha256"),
        study=str(winner["experiment"]),
        trial=str(winner["trial"]),
        metrics={"systems": evaluation["systems"], "difference": evaluation["difference"]},
        command=command,
        forced=gates.forced,
        gates=gates.to_json(),
        dtype=winner.get("dtype"),
        method=candidate.method,
        objective=candidate.experiment.objective.type,
    )


def _typed(candidate: Candidate, alias: str, merge: bool, skip: Collection[str], forced: bool) -> str:
    """Returns the command that repeats this promotion."""
    words = ["raytune-ft promote", _as_typed(candidate.run.root), *(["--as", alias] if alias != CHAMPION else [])]
    words += ["--merge"] * merge + [f"--skip {gate}" for gate in skip] + ["--force"] * forced
    return " ".join(words)


def _as_typed(path: Path) -> str:
    """Returns the path relative to the working directory, since a published command must not show the ones above."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name if path.is_absolute() else str(path)


def _count_use(candidate: Candidate, registry: Registry, alias: str, gates: Gates) -> Uses | None:
    """Counts a use of the test split, because the following gates decide by it whether the winner passes or not."""
    run, holds = candidate.run, registry.alias(candidate.adapter, alias)
    if not (gates.wanted("gain") or gates.wanted("no_worse")):
        return read_uses(run)
    against = f"{candidate.adapter}@{alias}, " + (f"version {holds}" if holds else "without a version")
    trial, weights = str(candidate.winner["trial"]), candidate.adapter_sha256
    return note_use(run, Use("promote", run.root.name, trial, weights, against))


def _card_facts(candidate: Candidate, uses: Uses | None) -> CardFacts:
    trained = with_parameters(candidate.experiment, candidate.winner.get("parameters") or {})
    return CardFacts(
        rows={name: int(split["rows"]) for name, split in candidate.data.get("splits", {}).items()},
        duplicates=candidate.data.get("duplicates") or {},
        parameters=candidate.winner.get("parameters") or {},
        test_rows=candidate.evaluation.get("rows"),
        test_uses=uses,
        objective=room(candidate.experiment.objective).words(trained),
        on_trained_base=candidate.evaluation.get("on_trained_base") or {},
    )
