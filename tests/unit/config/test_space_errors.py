"""A space is checked against the experiment's own models, and its file's own lines are named."""

from __future__ import annotations

from pathlib import Path

import pytest


def with_parameter(line: str) -> str:
    return f"# comment\nparameters:\n  method.r: {{choice: [8]}}\n  {line}\n"


@pytest.mark.parametrize(
    ("parameter", "line"),
    [
        ("train.learning_rate: {loguniform: [1e-2, 1e-4]}", "low 0.01 is above high 0.0001; write [0.0001, 0.01]"),
        ("train.weight_decay: {uniform: [1, 0]}", "low 1.0 is above high 0.0; write [0.0, 1.0]"),
        ("train.warmup_steps: {randint: [9, 1]}", "low 9 is above high 1; write [1, 9]"),
        ("train.learning_rate: {loguniform: [0, 1e-4]}", "loguniform needs low > 0, got 0.0"),
        ("train.learning_rate: {loguniform: [-1, 1e-4]}", "loguniform needs low > 0, got -1.0"),
        ("train.learning_rate: {loguniform: [.nan, 1e-4]}", "input should be a finite number"),
        ("train.learning_rate: {loguniform: [1e-4, .inf]}", "input should be a finite number"),
        ("train.learning_rate: {choice: []}", "choice: [] leaves nothing to try"),
        (
            "train.learning_rate: {choice: [1], uniform: [0, 1]}",
            "needs exactly one of loguniform, uniform, randint, cho",
        ),
        ("train.learning_rate: {}", "needs exactly one of loguniform, uniform, randint, choice; has none"),
        ("train.learning_rate: {loguniforn: [1, 2]}", "loguniforn: unknown key; did you mean loguniform?"),
    ],
)
def test_a_wrong_distribution_is_placed_in_the_space_file(problem, parameter, line) -> None:
    message = problem(space=with_parameter(parameter))
    assert message.startswith("space.yaml:4: ") and line in message


@pytest.mark.parametrize(
    ("parameter", "line"),
    [
        ("train.dtype: {choice: [auto, float32]}", "auto is decided once for all trials; name the types, or leave"),
        ("train.learing_rate: {choice: [1e-3]}", "train.learing_rate: unknown key; did you mean learning_rate?"),
        ("trian.learning_rate: {choice: [1e-3]}", "trian: unknown key; did you mean train?"),
        ("method.alpha: {choice: [16, 0]}", "method.alpha: 0: input should be greater than or equal to 1"),
        ("method.alpha: {uniform: [1, 16]}", "method.alpha: 1.0 is not a whole number; write it without point or"),
        ("train.max_steps: {choice: [10, true]}", "train.max_steps: true is not a whole number; write plain digits"),
        ("train.warmup_steps: {randint: [false, 4]}", "randint.0: false is not a whole number; write plain digits"),
        ("method.dropout: {uniform: [0, 1]}", "method.dropout: 1.0: input should be less than 1"),
        ("train.learning_rate: {uniform: [0, 1]}", "train.learning_rate: 0.0: input should be greater than 0"),
        ("train.max_steps: {choice: [10, 4]}", "search.scheduler.grace_period 5 is above train.max_steps 4"),
        ("train.max_steps.x: {choice: [10]}", "train.max_steps is 30, which has no keys below it"),
        (
            "method.use_rslora: {choice: [true], when: {method.typ: lora}}",
            "method.typ: unknown key; did you mean type?",
        ),
        ("method.use_rslora: {choice: [true], when: {method.type: full}}", "is no setting of type full but of lora"),
    ],
)
def test_a_value_that_no_trial_could_run_is_refused_with_its_key(problem, parameter, line) -> None:
    message = problem(space=with_parameter(parameter))
    assert message.startswith("space.yaml:4: ") and line in message


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("train.per_device_eval_batch_size", "[4, 8]"),
        ("train.eval_steps", "[5, 10]"),
        ("train.divergence_factor", "[1.5, 3.0]"),
    ],
)
def test_a_setting_that_changes_what_is_measured_can_not_be_searched(problem, key, values) -> None:
    message = problem(space=with_parameter(f"{key}: {{choice: {values}}}"))
    assert message.startswith(f"space.yaml:4: {key} ") and "\n" not in message
    assert message.endswith(f"so trials that differ in it can't be compared; remove it, and set {key} for all trials")


@pytest.mark.parametrize("rank", ["[4, 0]", "[16, 513]"])
def test_a_space_that_holds_a_rank_the_server_cannot_serve_is_refused(problem, rank) -> None:
    message = problem(space=f"parameters:\n  method.r: {{choice: {rank}}}\n")
    assert message.startswith("space.yaml:2: method.r: ")


@pytest.mark.parametrize(
    "key", ["data.max_length", "base_model", "search.trials", "name", "objective.loss_on", "evaluate.batch_size"]
)
def test_a_setting_that_all_trials_share_can_not_be_searched(problem, key) -> None:
    message = problem(space=with_parameter(f"{key}: {{choice: [64, 128]}}"))
    assert message == (
        f"space.yaml:4: {key} is the same for all trials of a study, so it can't be searched; "
        "search settings of train, method, resources, seed"
    )


@pytest.mark.parametrize(
    ("start", "line"),
    [
        ("{method.alpha: 8}", "start_from sets method.alpha, which the space does not search; remove it"),
        ("{method.r: 7}", "start_from sets method.r to 7, which the space does not hold"),
        ("{train.learning_rate: 1.0}", "start_from sets train.learning_rate to 1.0, which the space does not hold"),
        ("{train.learning_rate: fast}", "start_from sets train.learning_rate to 'fast', which the space does not hold"),
        ("{train.warmup_steps: 2.5}", "start_from sets train.warmup_steps to 2.5, which the space does not hold"),
        ("{train.warmup_steps: true}", "start_from sets train.warmup_steps to True, which the space does not hold"),
    ],
)
def test_a_starting_point_outside_of_the_space_is_refused_on_its_line(problem, start, line) -> None:
    space = (
        "parameters:\n  method.r: {choice: [4, 8]}\n  train.learning_rate: {loguniform: [1e-4, 1e-2]}\n"
        f"  train.warmup_steps: {{randint: [0, 9]}}\nstart_from:\n  - {{method.r: 8}}\n  - {start}\n"
    )
    message = problem(space=space)
    assert message.startswith("space.yaml:7: ") and line in message


def test_starting_points_on_the_edges_of_the_space_are_taken(load) -> None:
    space = (
        "parameters:\n  train.learning_rate: {loguniform: [1e-4, 1e-2]}\n  train.warmup_steps: {randint: [0, 9]}\n"
        "start_from:\n  - {train.learning_rate: 1e-4, train.warmup_steps: 9}\n  - {train.learning_rate: 1e-2}\n"
    )
    assert len(load(space=space).search.space.start_from) == 2


def test_a_space_file_that_is_missing_or_no_mapping_is_named(problem, tmp_path: Path) -> None:
    line = problem(("space: space.yaml", "space: nowhere.yaml"))
    assert line.startswith("experiment.yaml:14: search.space: no file nowhere.yaml; give a file of search_spaces/")
    assert "no file ." in problem(("space: space.yaml", "space: ."))
    assert problem(space="parameters: [\n").startswith("space.yaml:2: not valid YAML")
    assert problem(space="- a\n").startswith("space.yaml: is a list, not a mapping")
    assert problem(space="parameter: {}\n").startswith("space.yaml:1: parameter: unknown key; did you mean parameters?")
    assert problem(space="parameters: {}\n").startswith("space.yaml:1: parameters: {}: ")


def test_an_inline_space_is_placed_in_the_experiment_file(problem) -> None:
    line = problem(("space: space.yaml", "space: {parameters: {method.r: {choice: [8, 0]}}}"))
    assert line.startswith("experiment.yaml:14: method.r: 0: ")
