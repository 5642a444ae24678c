"""The Python API; the command line calls these same functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_experiment as _load_experiment
from raytune_ft.config.load import load_recorded
from raytune_ft.events.kinds import Listener
from raytune_ft.events.stream import nobody
from raytune_ft.ownership import check_own
from raytune_ft.paths import RunDirectory

if TYPE_CHECKING:
    from raytune_ft.data.checks import DataSummary
    from raytune_ft.promotion.promote import Promotion
    from raytune_ft.search.sweep import SweepResult
    from raytune_ft.serving.local.session import Endpoint


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads and checks an experiment file; `overrides` are `key.path=value`. Raises InputError."""
    return _load_experiment(path, overrides)


def check_inputs(experiment: Experiment, log: Callable[[str], None] = _to_stderr) -> DataSummary:
    """Checks the base, every line of the data and earlier studies; starts nothing, logs warnings. Raises InputError."""
    from raytune_ft.config.search.fits import search_warnings
    from raytune_ft.data.base_model import check_base_model
    from raytune_ft.data.checks import check_data
    from raytune_ft.evaluation.retention import general_text
    from raytune_ft.search.earlier_studies.warm_start import check_warm_start

    check_base_model(experiment)
    check_warm_start(experiment)
    if experiment.promotion.retention is not None:
        general_text(experiment.promotion.retention.text)
    summary = check_data(experiment)
    for warning in (*search_warnings(experiment), *summary.warnings):
        log(f"warning: {warning}")
    return summary


def run_sweep(
    experiment: Experiment,
    *,
    resume: bool = False,
    extend: int = 0,
    trust: bool = False,
    listener: Listener = nobody,
    log: Callable[[str], None] = _to_stderr,
) -> SweepResult:
    """Searches for the best configuration, on the cluster that RAY_ADDRESS names or on a private local one.

    Args:
        experiment: With a `search` section.
        resume: Go on with the study in the run directory.
        extend: Go on with it, and with so many trials more than it holds.
        trust: Use the run directory also where somebody else made it.
        listener: Is told of each event; see `raytune_ft.events.kinds`.
        log: Takes warnings, and which limit of the budget ended it.

    Raises:
        InputError: The input is wrong; nothing was started.
        RaytuneError: No trial ended with an adapter.
    """
    from raytune_ft.search.sweep import run_sweep as search

    if resume or extend:
        experiment = go_on(experiment, extend, trust=trust)
    check_inputs(experiment, log)
    return search(experiment, listener, resume=resume or extend > 0, trust=trust, log=log)


def go_on(experiment: Experiment, more: int = 0, *, trust: bool = False) -> Experiment:
    """The experiment with as many trials as its study will have, `more` beyond those it holds. Raises InputError."""
    from raytune_ft.search.study.extend import go_on as go_on_with

    return go_on_with(experiment, more, trust=trust)


def evaluate(
    run: RunDirectory | str | Path,
    log: Callable[[str], None] = _to_stderr,
    *,
    trust: bool = False,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Compares base and winner on the test split; returns what `evaluation.json` holds. Raises InputError.

    Args:
        run: The run directory.
        log: Takes warnings.
        trust: Use it also where somebody else made it.
        overrides: `evaluate.key=value` each, in place of what the run was started with.
    """
    from raytune_ft.evaluation.compare import evaluate_run

    directory = _directory(run)
    check_own(directory, trust=trust)
    return evaluate_run(directory, log, overrides)


def promote(
    run: RunDirectory | str | Path,
    *,
    registry: str | Path | None = None,
    alias: str = "champion",
    merge: bool = False,
    force: bool = False,
    skip: Sequence[str] = (),
    command: str | None = None,
    trust: bool = False,
    log: Callable[[str], None] = _to_stderr,
    endpoint: Callable[[], Endpoint] | None = None,
    url: str | None = None,
) -> Promotion:
    """Makes the winner a version of its adapter and moves an alias to it, if every gate lets it.

    Args:
        run: The run directory.
        registry: Directory of adapters, or s3://bucket/prefix; by default the one that the experiment names.
        alias: `champion`, or `challenger` for a canary.
        merge: Write the winner into the base's weights, and serve it as a model of its own.
        force: Go on past the gates `gain`, `retention` and `no_worse`.
        skip: Gates that are not run: `gain`, `retention`, `no_worse`, `parity`.
        command: What the card says made it; by default the plain command.
        trust: Use the run directory also where somebody else made it.
        log: Takes what each gate found.
        endpoint: Gives an endpoint that runs, whose engine the gate parity then asks instead of one of its own.
        url: An endpoint, ending in /v1, that is asked whether it takes such a rank; `log` is told where it does not.

    Raises:
        RaytuneError: A gate refused; the alias is where it was.
    """
    from raytune_ft.promotion.endpoint_capacity import warn_of_room
    from raytune_ft.promotion.promote import promote as promote_run
    from raytune_ft.registry.location import open_registry

    directory = _directory(run)
    check_own(directory, trust=trust)
    target = open_registry(registry or load_recorded(directory).registry.path)
    done = promote_run(
        directory, target, alias=alias, merge=merge, force=force, skip=skip, command=command, say=log, endpoint=endpoint
    )
    if done.alias == "champion" and endpoint is None:  # that one's engine has loaded it already
        warn_of_room(target, done.adapter, done.version, done.previous, url, log)
    return done


def _directory(run: RunDirectory | str | Path) -> RunDirectory:
    return run if isinstance(run, RunDirectory) else RunDirectory(Path(run).resolve())
