"""A portfolio out of run directories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.config.search.portfolio import read_portfolio
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.search.earlier_studies.portfolio_build import build_portfolio, write_portfolio
from raytune_ft.training.metrics_log import append_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind

RATE, RANK = "train.learning_rate", "method.r"
SPACE = {RATE: {"loguniform": [1e-4, 1e-2]}, RANK: {"choice": [4, 8, 16]}}
Study = Callable[..., Path]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Leaves the run directory of a study; trials are (rate, rank, value) or (rate, rank, kind)."""

    def leave(name: str, *trials: tuple[float, int, float | str], space: dict | None = None, **more) -> Path:
        run = RunDirectory(tmp_path / "runs" / name)
        experiment = {
            "name": name,
            "base_model": "/models/tiny",
            "data": {"train": f"data/{more.get('data', name)}.train.jsonl"},
            "method": {"alpha": more.get("alpha", 16), "r": 8, "use_rslora": False},
            "train": {"max_steps": 20, "gradient_accumulation_steps": 1, "learning_rate": 1e-3},
            "search": {"space": {"parameters": space or SPACE}, "metric": more.get("metric", "eval_loss")},
        }
        run.data.mkdir(parents=True)
        run.experiment.write_text(yaml.safe_dump(experiment))
        write_json(run.data / "manifest.json", {"fingerprint": more.get("fingerprint", name)})
        for number, (rate, rank, end) in enumerate(trials):
            trial = run.trial(f"{number:04d}")
            trial.root.mkdir(parents=True)
            write_json(trial.config, {"trial": trial.root.name, "parameters": {RATE: rate, RANK: rank}})
            kind = OutcomeKind("completed" if isinstance(end, float) else end)
            for step, loss in ((10, 9.0), (20, end)) if isinstance(end, float) else ((10, 9.0),):
                append_metrics(trial.metrics, {"step": step, "eval_loss": loss, "checkpoint": f"step-{step}"})
            Outcome(kind, "", 20).write(trial)
        return run.root

    return leave


def rates(portfolio) -> list[float]:
    return [entry.parameters[RATE] for entry in portfolio.configurations]


def test_the_second_configuration_helps_the_data_set_that_the_first_serves_badly(study: Study) -> None:
    one = study("one", (1e-4, 8, 1.0), (1e-3, 8, 1.1), (1e-2, 8, 3.0), (5e-3, 8, 2.0))
    two = study("two", (1e-4, 8, 9.0), (1e-3, 8, 6.0), (1e-2, 8, 5.0), (5e-3, 8, 8.0))
    built = build_portfolio([one, two], 2)
    assert rates(built.portfolio) == [1e-3, 1e-2] and built.warnings == ()
    first, second = built.portfolio.configurations
    # medians are (1.1 + 2) / 2 and (6 + 8) / 2
    assert first.regret == pytest.approx({"one": 0.1 / 0.55, "two": 1 / 2}, abs=1e-4) and first.helped == "one"
    assert (second.helped, second.covered) == ("two", pytest.approx(0.1 / 0.55 / 2, abs=1e-4))
    assert first.parameters == {
        RATE: 1e-3,
        RANK: 8,
        "method.alpha": 16,
        "method.use_rslora": False,
        "train.gradient_accumulation_steps": 1,
    }


def test_studies_that_share_no_configuration_speak_through_their_neighbours(study: Study) -> None:
    one = study("one", (1e-4, 4, 1.0), (1e-3, 4, 5.0), (1e-2, 4, 9.0))
    two = study("two", (1.1e-4, 8, 9.0), (1.1e-3, 8, 5.0), (9e-3, 8, 1.0))
    portfolio = build_portfolio([one, two], 2).portfolio
    assert sorted(rates(portfolio)) == [1e-4, 9e-3]
    low = next(entry for entry in portfolio.configurations if entry.parameters[RATE] == 1e-4)
    assert low.regret["one"] == 0.0 and low.regret["two"] > 0.9


def test_runs_on_the_same_data_are_one_data_set(study: Study) -> None:
    runs = [
        study("one", (1e-4, 8, 1.0), (1e-3, 8, 2.0), (2e-3, 8, 3.0)),
        study("again", (3e-3, 8, 0.5), (4e-3, 8, 9.0), data="one", fingerprint="one"),
    ]
    portfolio = build_portfolio([*runs, runs[0]], 1).portfolio
    assert rates(portfolio) == [3e-3]
    assert portfolio.configurations[0].regret == {"one": 0.0}
    assert [source.study for source in portfolio.studies] == ["one", "again"]


def test_data_sets_that_are_called_alike_are_told_apart(study: Study) -> None:
    runs = [study(name, (1e-3, 8, 1.0), (1e-4, 8, 2.0), data="train", fingerprint=name * 9) for name in ("a", "b")]
    assert set(build_portfolio(runs, 1).portfolio.configurations[0].regret) == {"train-aaaaaa", "train-bbbbbb"}


def test_only_trials_that_ran_to_their_end_are_chosen_and_others_count_as_bad(study: Study) -> None:
    run = study(
        "one", (1e-3, 8, 1.0), (2e-3, 8, "pruned"), (5e-3, 8, "diverged"), (1e-2, 8, "out_of_memory"), (1e-4, 8, 2.0)
    )
    other = study("two", (2e-3, 8, 1.0), (1e-4, 8, 1.5), (1e-3, 8, 3.0))
    portfolio = build_portfolio([run, other], 9).portfolio
    assert set(rates(portfolio)) <= {1e-3, 2e-3, 1e-4}
    pruned_there = next(entry for entry in portfolio.configurations if entry.parameters[RATE] == 2e-3)
    assert pruned_there.regret == {"one": 1.0, "two": 0.0}


def test_a_setting_that_only_one_study_searched_has_the_other_ones_fixed_value(study: Study) -> None:
    one = study("one", (1e-3, 4, 1.0), (1e-4, 16, 2.0), (1e-2, 16, 3.0))
    two = study("two", (1e-3, 8, 1.0), (1e-4, 8, 2.0), (1e-2, 8, 3.0), space={RATE: SPACE[RATE]}, alpha=64)
    first = build_portfolio([one, two], 9).portfolio.configurations
    assert {entry.parameters["method.alpha"] for entry in first} == {16, 64}


def test_studies_that_can_not_be_put_together_are_refused_in_one_line(study: Study, tmp_path: Path) -> None:
    one = study("one", (1e-3, 8, 1.0))
    cases = {
        "is about accuracy (min), ": study("other", (1e-3, 8, 1.0), metric="accuracy"),
        "searches train.weight_decay, ": study("else", (1e-3, 8, 1.0), space={"train.weight_decay": {}}),
        "has no data/manifest.json": study("bare", (1e-3, 8, 1.0), fingerprint=""),
        "is no run directory": tmp_path,
    }
    for message, run in cases.items():
        with pytest.raises(InputError) as caught:
            build_portfolio([one, run], 4)
        assert str(caught.value).startswith(f"{run}: {message}") and "\n" not in str(caught.value)


def test_a_study_without_a_completed_trial_is_left_out_with_a_warning(study: Study) -> None:
    empty = study("empty", (1e-3, 8, "diverged"))
    built = build_portfolio([study("one", (1e-3, 8, 1.0), (1e-4, 8, 2.0)), empty], 4)
    assert built.warnings[0] == f"{empty}: no trial ran to its end; it is left out"
    assert [source.study for source in built.portfolio.studies] == ["one"]
    with pytest.raises(InputError, match="no trial ran to its end"):
        build_portfolio([empty], 4)


def test_a_file_is_replaced_only_where_it_is_a_portfolio(study: Study, tmp_path: Path) -> None:
    portfolio = build_portfolio([study("one", (1e-3, 8, 1.0), (1e-4, 8, 2.0))], 4).portfolio
    to = tmp_path / "deep/p.yaml"
    for _ in range(2):
        write_portfolio(portfolio, to)
    assert read_portfolio(to) == portfolio
    precious = tmp_path / "experiment.yaml"
    precious.write_text("name: mine\n")
    with pytest.raises(InputError, match="is there, and is no portfolio"):
        write_portfolio(portfolio, precious)
    assert precious.read_text() == "name: mine\n"


def test_the_verb_prints_the_order_and_what_each_helps_and_writes_the_file(study: Study, tmp_path: Path) -> None:
    one = study("one", (1e-4, 8, 1.0), (1e-3, 8, 1.1), (1e-2, 8, 3.0), (5e-3, 8, 2.0))
    two = study("two", (1e-4, 8, 9.0), (1e-3, 8, 6.0), (1e-2, 8, 5.0), (5e-3, 8, 8.0))
    to = tmp_path / "p.yaml"
    done = CliRunner().invoke(app, ["portfolio", "build", str(one), str(two), "--to", str(to), "--size", "2"])
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1] in ("1", "2")]
    assert rows == [["1", "0.001", "0.341", "one"], ["2", "0.01", "0.091", "two"]]
    assert "in all of them: r 8, alpha 16" in done.stdout
    assert rates(read_portfolio(to)) == [1e-3, 1e-2]
    as_json = CliRunner().invoke(app, ["portfolio", "build", str(one), "--to", str(to), "--json"])
    assert '"helped": "one"' in as_json.stdout
