"""Whether a run may be gone on with (fault 16)."""

from __future__ import annotations

import pytest

from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.errors import InputError
from raytune_ft.paths import write_text
from raytune_ft.search.study.driver import only_driver
from raytune_ft.search.study.resume import check_same_experiment, in_recorded_type, interrupted_trials
from raytune_ft.search.study.study import open_study


def test_a_fresh_directory_and_the_same_experiment_are_fine(make_experiment, run) -> None:
    experiment = make_experiment()
    check_same_experiment(experiment, run)
    write_text(run.experiment, resolved_yaml(experiment))
    check_same_experiment(make_experiment(), run)


def test_a_run_keeps_its_number_type_where_the_file_leaves_it_open(make_experiment, run) -> None:
    """Also on a machine that is fast in another one: what a file with `auto` goes on with is what was decided."""
    decided = make_experiment().computing_in("bfloat16")
    left_open = decided.model_copy(update={"train": decided.train.model_copy(update={"dtype": "auto"})})
    assert in_recorded_type(left_open, run) is left_open  # nothing was decided yet
    write_text(run.experiment, resolved_yaml(decided))
    assert in_recorded_type(left_open, run) == decided
    check_same_experiment(in_recorded_type(left_open, run), run)
    asked = make_experiment().computing_in("float32")
    with pytest.raises(InputError, match=r"train\.dtype: 'bfloat16' -> 'float32'"):
        check_same_experiment(in_recorded_type(asked, run), run)


def test_more_trials_and_more_at_once_may_be_asked_for(make_experiment, run) -> None:
    write_text(run.experiment, resolved_yaml(make_experiment()))
    check_same_experiment(make_experiment(trials=20, max_concurrent=2), run)


@pytest.mark.parametrize(
    ("search", "difference"),
    [
        (
            {"space": {"parameters": {"method.r": {"choice": [4, 8]}}}},
            "search.space.parameters.method.r.choice: [4, 8, 16] -> [4, 8]",
        ),
        ({"algorithm": {"type": "tpe", "seed": 1}}, "search.algorithm.seed: 0 -> 1"),
        (
            {"scheduler": {"type": "asha", "grace_period": 6, "reduction_factor": 3}},
            "search.scheduler.grace_period: 5 -> 6",
        ),
    ],
)
def test_another_search_is_refused_with_the_difference(make_experiment, run, search, difference) -> None:
    write_text(run.experiment, resolved_yaml(make_experiment()))
    with pytest.raises(InputError) as caught:
        check_same_experiment(make_experiment(**search), run)
    line = str(caught.value)
    assert "was started with other settings (" in line and difference in line
    assert line.endswith("undo them, or change `name`") and "\n" not in line


def test_other_data_or_training_is_refused_with_the_difference(make_experiment, run) -> None:
    experiment = make_experiment()
    write_text(run.experiment, resolved_yaml(experiment))
    data = experiment.data.model_copy(update={"train": "other.jsonl", "test": "test.jsonl"})
    with pytest.raises(InputError) as caught:
        check_same_experiment(experiment.model_copy(update={"data": data, "seed": 3}), run)
    for difference in ("data.train: 'train.jsonl' -> 'other.jsonl'", "data.test: None -> 'test.jsonl'", "seed: 0 -> 3"):
        assert difference in str(caught.value)


def test_a_long_difference_is_cut(make_experiment, run) -> None:
    write_text(run.experiment, resolved_yaml(make_experiment()))
    parameters = {
        f"train.{key}": {"choice": [1]} for key in ("warmup_steps", "weight_decay", "max_grad_norm", "eval_steps")
    }
    with pytest.raises(InputError, match=r" and \d+ more\)"):
        check_same_experiment(make_experiment(space={"parameters": parameters}), run)


def test_a_changed_password_is_no_change_and_is_not_shown(make_experiment, run) -> None:
    write_text(run.experiment, resolved_yaml(make_experiment(storage="postgresql://u:c4n4ry@host/db")))
    check_same_experiment(make_experiment(storage="postgresql://u:other@host/db"), run)
    with pytest.raises(InputError) as caught:
        check_same_experiment(make_experiment(storage="postgresql://u:c4n4ry@elsewhere/db"), run)
    assert "c4n4ry" not in str(caught.value)


def test_only_running_trials_are_interrupted_ones(make_experiment, run) -> None:
    experiment = make_experiment()
    study = open_study(experiment, experiment.search, run)
    trials = [study.ask() for _ in range(3)]
    study.tell(trials[1], 0.5)
    study.enqueue_trial({"method.r": 8})
    assert [trial.number for trial in interrupted_trials(study)] == [0, 2]


def test_a_run_takes_one_process_at_a_time(run) -> None:
    refused = pytest.raises(InputError, match="another sweep or training runs in it; wait for its end, or stop it")
    with only_driver(run), refused, only_driver(run):
        pass
    with only_driver(run):
        pass
