"""How many trials a study gets that is gone on with: `--resume` and `--extend`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory, write_text
from raytune_ft.search.study.driver import only_driver
from raytune_ft.search.study.extend import go_on
from raytune_ft.search.study.study import open_study


@pytest.fixture
def begun(make_experiment: Callable[..., Experiment], run: RunDirectory) -> Callable[..., Experiment]:
    """An experiment with a run of `ended` trials, one more that was interrupted, and one that waits."""

    def make(ended: int, **search: object) -> Experiment:
        experiment = make_experiment(**search).model_copy(update={"output_dir": str(run.root.parent)})
        study = open_study(experiment, experiment.search, run)
        for _ in range(ended):
            study.tell(study.ask(), 0.5)
        study.ask()
        study.enqueue_trial({"method.r": 8})
        run.trials.mkdir()
        write_text(run.experiment, resolved_yaml(experiment))
        return experiment

    return make


def trials(experiment: Experiment) -> int:
    assert experiment.search is not None
    return experiment.search.trials


def test_an_extension_counts_from_the_trials_that_the_study_holds(begun) -> None:
    assert trials(go_on(begun(7), 20)) == 28


def test_an_interrupted_study_is_never_asked_for_less_than_before(begun) -> None:
    experiment = begun(2)
    assert trials(go_on(experiment, 2)) == 8
    assert trials(go_on(experiment, 10)) == 13


def test_a_resumed_extension_is_still_extended_and_another_number_in_the_file_wins(begun) -> None:
    experiment = begun(7)
    go_on(experiment, 20)
    assert trials(go_on(experiment)) == 28
    fewer = experiment.model_copy(update={"search": experiment.search.model_copy(update={"trials": 10})})
    assert trials(go_on(fewer)) == 10


def test_a_study_that_was_never_extended_has_the_trials_of_its_file(begun) -> None:
    experiment = begun(7)
    assert go_on(experiment) is experiment


def test_an_extension_that_was_refused_leaves_no_trace(begun, run: RunDirectory) -> None:
    """Fault 16, by --extend."""
    experiment = begun(7)
    other = experiment.model_copy(update={"seed": 5})
    with pytest.raises(InputError, match=r"was started with other settings \(seed: 0 -> 5\)"):
        go_on(other, 20)
    assert not run.extended.exists()
    with only_driver(run), pytest.raises(InputError, match="another sweep or training runs in it"):
        go_on(experiment, 20)
    assert not run.extended.exists()


def test_a_grid_that_is_used_up_can_not_be_extended(begun, run: RunDirectory) -> None:
    experiment = begun(7, algorithm={"type": "grid", "points": 3})  # 3 learning rates x 3 ranks
    with pytest.raises(InputError, match=r"^--extend: 10 trials, and the grid has 9 configurations; give a number"):
        go_on(experiment, 2)
    assert not run.extended.exists()
    assert trials(go_on(experiment, 1)) == 9


def test_what_was_never_started_can_not_be_extended(make_experiment, run: RunDirectory) -> None:
    experiment = make_experiment().model_copy(update={"output_dir": str(run.root.parent)})
    with pytest.raises(InputError, match="holds no trials to extend; start it with raytune-ft sweep"):
        go_on(experiment, 20)
    with pytest.raises(InputError, match="search: missing"):
        go_on(experiment.model_copy(update={"search": None}), 20)
