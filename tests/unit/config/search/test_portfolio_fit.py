"""A portfolio in an experiment: where it is read from, how it is fitted into the space, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.load import load_experiment
from raytune_ft.config.search.portfolio import first_configurations, fit, nearest, portfolio_warnings
from raytune_ft.config.search.search import Parameter, SearchSpace

RATE, RANK, WARMUP = "train.learning_rate", "method.r", "train.warmup_steps"
TPE = "algorithm: {type: tpe, seed: 0}"
PORTFOLIO = (TPE, "algorithm: {type: portfolio, file: p.yaml, first: 2}")
SPACE = SearchSpace.model_validate(
    {
        "parameters": {
            RATE: {"loguniform": [1e-4, 1e-2]},
            RANK: {"choice": [4, 16, 64]},
            WARMUP: {"randint": [0, 9]},
            "method.use_rslora": {"choice": [True, False]},
        }
    }
)


@pytest.fixture(autouse=True)
def written(tmp_path: Path):
    """Writes `p.yaml`; `load` works in the same directory."""

    def write(*configurations: dict, **more) -> None:
        entries = [{"parameters": each} for each in configurations]
        (tmp_path / "p.yaml").write_text(yaml.safe_dump({"configurations": entries, **more}))

    write({RATE: 2e-3, RANK: 16}, {RATE: 1e-3, RANK: 4}, {RATE: 5e-4, RANK: 8})
    return write


@pytest.mark.parametrize(
    ("key", "value", "near"),
    [
        (RATE, 5e-4, 5e-4),
        (RATE, 1e-6, 1e-4),
        (RATE, 1, 1e-2),
        (RATE, "fast", None),
        (RANK, 16, 16),
        (RANK, 7, 4),  # 7/4 is less than 16/7
        (RANK, 9, 16),  # although 4 is nearer by difference
        (RANK, 512, 64),
        (WARMUP, 3.4, 3),
        (WARMUP, 40, 9),
        (WARMUP, -1, 0),
        ("method.use_rslora", False, False),
        ("method.use_rslora", "yes", None),
    ],
)
def test_a_value_becomes_the_nearest_that_the_space_holds(key: str, value: object, near: object) -> None:
    found = nearest(SPACE.parameters[key], value)
    assert found == near and type(found) is type(near)
    assert near is None or SPACE.parameters[key].holds(found)


def test_choices_with_zero_among_them_are_compared_by_difference() -> None:
    dropout = Parameter(choice=[0.0, 0.1, 0.5])
    assert (nearest(dropout, 0.04), nearest(dropout, 0.2), nearest(dropout, 0.4)) == (0.0, 0.1, 0.5)
    assert nearest(Parameter(choice=["q_proj", "all-linear"]), 3) is None


def test_what_the_space_does_not_search_is_left_out_and_told_where_the_experiment_has_another_value() -> None:
    own = {"method": {"alpha": 32, "dropout": 0.0}}
    fitted = fit({RATE: 1.0, RANK: 16, "method.alpha": 16, "method.dropout": 0.0}, SPACE, own)
    assert fitted.parameters == {RATE: 1e-2, RANK: 16}
    assert fitted.changes == (f"{RATE} 1 -> 0.01", "method.alpha 16 -> 32")


def test_the_first_ones_come_after_start_from_each_once_and_no_more_than_there_are_trials(load, written) -> None:
    written({RATE: 2e-3, RANK: 16}, {RATE: 5e-2, RANK: 16}, {RATE: 9e-2, RANK: 32}, {RANK: 8})
    experiment = load((TPE, "algorithm: {type: portfolio, file: p.yaml, first: 4}"), ("  trials: 4", "  trials: 9"))
    own = experiment.model_dump(mode="json")
    first = first_configurations(experiment.search, own)
    assert first == [{RANK: 8}, {RATE: 2e-3, RANK: 16}, {RATE: 1e-2, RANK: 16}]
    fewer = experiment.search.model_copy(update={"trials": 2})
    assert first_configurations(fewer, own) == first[:2]


def test_a_run_holds_the_configurations_and_needs_the_file_no_more(load, tmp_path: Path, written) -> None:
    before = load(PORTFOLIO)
    assert before.search.algorithm.configurations[0] == {RATE: 2e-3, RANK: 16}
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(before))
    written({RATE: 9e-3})
    assert load_experiment(tmp_path / "resolved.yaml") == before
    (tmp_path / "p.yaml").unlink()
    assert load_experiment(tmp_path / "resolved.yaml") == before


def test_configurations_may_stand_in_the_experiment_and_another_algorithm_may_follow(load) -> None:
    listed = "algorithm: {type: portfolio, configurations: [{method.r: 16}], then: {type: random, seed: 7}}"
    search = load((TPE, listed)).search
    assert (search.proposer.type, search.algorithm.seed) == ("random", 7)
    assert load(PORTFOLIO).search.proposer.n_startup_trials == 0


def test_check_says_what_was_moved_and_when_nothing_is_left_to_search(load, written) -> None:
    written({RATE: 0.5, RANK: 16}, {RATE: 1e-3, RANK: 32}, {RATE: 1e-3, RANK: 4}, {RATE: 1e-6})
    three = load((TPE, "algorithm: {type: portfolio, file: p.yaml, first: 3}"))
    moved, full = portfolio_warnings(three)
    assert moved == (f"2 of the portfolio's first 3 configurations are moved ({RATE} 0.5 -> 0.01; {RANK} 32 -> 16)")
    assert full == "start_from and portfolio take all 4 trials, tpe proposes none; raise search.trials"
    written({RATE: 1e-3, RANK: 16})
    assert portfolio_warnings(load(PORTFOLIO)) == [] == portfolio_warnings(load())


def test_a_portfolio_that_is_missing_or_wrong_is_named_with_its_line(problem, tmp_path: Path, written) -> None:
    missing = problem((TPE, "algorithm: {type: portfolio, file: nowhere.yaml}"))
    assert missing.startswith("experiment.yaml:15: search.algorithm.file: no file nowhere.yaml; write one with ")
    nothing = problem((TPE, "algorithm: {type: portfolio}"))
    assert nothing.startswith("experiment.yaml:15: search.algorithm: the portfolio has no configurations; name a file")
    (tmp_path / "p.yaml").write_text("# mine\nconfigurations:\n  - paramters: {method.r: 8}\n")
    assert problem(PORTFOLIO) == "p.yaml:3: configurations.0.paramters: unknown key; did you mean parameters?"
    (tmp_path / "p.yaml").write_text("configurations: []\n")
    assert problem(PORTFOLIO).startswith("p.yaml:1: configurations: []: ")
    written({"train.weight_decay": 0.1})
    assert problem(PORTFOLIO) == (
        "experiment.yaml:15: search.algorithm: the portfolio knows train.weight_decay, none of which the space "
        "searches; give another portfolio, or search those settings"
    )
