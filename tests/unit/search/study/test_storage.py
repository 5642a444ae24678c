"""Where studies are kept (fault 15), and what is said when a storage does not answer."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.paths import RunDirectory
from raytune_ft.search.study import claim, storage
from raytune_ft.search.study.searcher import StudySearcher
from raytune_ft.search.study.storage import journal_path, open_storage, storage_answers
from raytune_ft.search.study.study import open_study
from raytune_ft.training.outcome import Outcome, OutcomeKind

MakeExperiment = Callable[..., Experiment]
AT_ONCE = 12


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("studies/all.journal", "studies/all.journal"),
        ("all.log", "all.log"),
        ("journal:anything", "anything"),
        ("sqlite:///all.log", None),
        ("postgresql://host/db.journal", None),
    ],
)
def test_a_path_that_ends_in_journal_or_log_is_a_journal(text: str, path: str | None) -> None:
    assert journal_path(text) == (Path(path).resolve() if path else None)


def test_a_journal_is_made_with_its_directory_and_read_again(make_experiment, run, tmp_path) -> None:
    experiment = make_experiment(storage=str(tmp_path / "new" / "all.journal"))
    study = open_study(experiment, experiment.search, run)
    study.tell(study.ask(), 0.5)
    again = open_study(experiment, experiment.search, run)
    assert [trial.value for trial in again.trials] == [0.5]
    assert not run.study.exists()


def test_the_half_line_of_a_killed_writer_spoils_no_journal(make_experiment, run, tmp_path) -> None:
    path = tmp_path / "all.journal"
    experiment = make_experiment(storage=str(path))
    study = open_study(experiment, experiment.search, run)
    study.tell(study.ask(), 0.5)
    with path.open("a") as stream:
        stream.write('{"op_code":4,"worker')
    again = open_study(experiment, experiment.search, run)
    again.tell(again.ask(), 0.25)
    assert [trial.value for trial in open_study(experiment, experiment.search, run).trials] == [0.5, 0.25]


def drive(name: str, where: str, root: str, experiment: dict) -> None:
    """A whole search of its own process: trials, reports and ends."""
    loaded = Experiment.model_validate({**experiment, "name": name})
    run = RunDirectory(Path(root) / name)
    study = open_study(loaded, loaded.search, run)
    searcher = StudySearcher(
        study, loaded, loaded.search, AT_ONCE, [], lambda trial, result: Outcome(OutcomeKind.completed, "", 2, 0.5)
    )
    for number in range(AT_ONCE):
        searcher.suggest(str(number))
        searcher.on_trial_result(str(number), {"step": 1, "eval_loss": 1.0})
        searcher.on_trial_complete(str(number), {"step": 2, "eval_loss": 0.5})


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_fault_15_two_sweeps_at_once_on_one_storage_are_two_studies_and_nothing_is_mixed(
    make_experiment: MakeExperiment, tmp_path: Path, kind: str
) -> None:
    where = f"sqlite:///{tmp_path}/all.db" if kind == "sqlite" else f"{tmp_path}/all.journal"
    experiment = make_experiment(storage=where, algorithm={"type": "random"}).model_dump(mode="json")
    forked = multiprocessing.get_context("fork")
    drivers = [forked.Process(target=drive, args=(name, where, str(tmp_path), experiment)) for name in ("one", "two")]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(60)
    assert [driver.exitcode for driver in drivers] == [0, 0]
    opened = open_storage(where, RunDirectory(tmp_path / "look"))
    for name in ("one", "two"):
        trials = optuna.load_study(study_name=name, storage=opened).trials
        assert [trial.number for trial in trials] == list(range(AT_ONCE))
        assert all(trial.state.name == "COMPLETE" and len(trial.intermediate_values) == 2 for trial in trials)


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_fault_15_a_study_of_the_same_name_belongs_to_the_run_that_made_it(
    make_experiment: MakeExperiment, tmp_path: Path, kind: str
) -> None:
    where = f"sqlite:///{tmp_path}/all.db" if kind == "sqlite" else f"{tmp_path}/all.journal"
    experiment = make_experiment(storage=where)
    mine, other = RunDirectory(tmp_path / "mine"), RunDirectory(tmp_path / "other")
    open_study(experiment, experiment.search, mine).ask()
    with pytest.raises(InputError, match=r"study toy: belongs to the run .*:.*/mine; change `name`, or go on with"):
        open_study(experiment, experiment.search, other)
    mine.root.rename(tmp_path / "moved")
    assert len(open_study(experiment, experiment.search, RunDirectory(tmp_path / "moved")).trials) == 1


def test_a_study_whose_maker_was_killed_before_it_said_whose_it_is_may_be_taken(
    make_experiment: MakeExperiment, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(storage=f"sqlite:///{tmp_path}/all.db")
    optuna.create_study(study_name="toy", storage=experiment.search.storage)
    monkeypatch.setattr(claim, "WAIT_S", 0.2)
    open_study(experiment, experiment.search, run)
    with pytest.raises(InputError, match="belongs to the run"):
        open_study(experiment, experiment.search, RunDirectory(tmp_path / "other"))


def test_fault_15_a_locked_database_is_waited_for(make_experiment: MakeExperiment, run: RunDirectory) -> None:
    experiment = make_experiment()
    study = open_study(experiment, experiment.search, run)
    holder = sqlite3.connect(run.study, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    threading.Timer(1.0, lambda: holder.execute("COMMIT")).start()
    began = time.monotonic()
    study.ask()
    assert time.monotonic() - began > 0.8
    assert len(study.trials) == 1


def test_fault_15_a_database_that_stays_locked_is_one_clear_line(
    make_experiment: MakeExperiment, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "LOCKED_S", 0.2)
    experiment = make_experiment()
    study = open_study(experiment, experiment.search, run)
    holder = sqlite3.connect(run.study, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match=r"study\.db: locked by another process for 0\.2 s; wait for its end"):
        open_study(experiment, experiment.search, run)
    with pytest.raises(RaytuneError, match="locked by another process") as caught, storage_answers(None, run):
        study.ask()
    assert caught.value.exit_code == 1 and "add --resume" in str(caught.value)


def test_a_search_whose_storage_fails_ends_with_that_and_hands_out_nothing_more(
    make_experiment: MakeExperiment, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Tune would make a trial's failure of it and go on."""
    monkeypatch.setattr(storage, "LOCKED_S", 0.2)
    experiment = make_experiment()
    study = open_study(experiment, experiment.search, run)
    searcher = StudySearcher(
        study, experiment, experiment.search, 3, [], lambda name, result: Outcome(OutcomeKind.completed, "", 1, 0.5)
    )
    searcher.suggest("a")
    holder = sqlite3.connect(run.study, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RaytuneError, match="locked by another process"), storage_answers(None, run):
        searcher.on_trial_complete("a", {"step": 1, "eval_loss": 0.5})
    holder.execute("COMMIT")
    with pytest.raises(type(searcher.failure)):
        searcher.suggest("b")
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]  # to be handed out again by --resume


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:c4n4ry@127.0.0.1:1/x", "Connection refused"),
        ("postgres://u:c4n4ry@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://u:c4n4ry@127.0.0.1:abc/x", "invalid literal"),
        ("postgresql://u:c4n@c4n4ry@127.0.0.1/x", "holds an @; write that as %40"),
        ("postgresql://u:***@127.0.0.1:1/x", "set PGPASSWORD"),
        ("mysql://u:c4n4ry@127.0.0.1/x", "Failed to import DB access module"),
        ("c4n4ry:no-url", "Could not parse SQLAlchemy URL"),
    ],
)
def test_a_wrong_url_is_one_line_without_the_password(run: RunDirectory, url: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        open_storage(url, run)
    line = str(caught.value)
    assert line.startswith("search.storage: ") and words in line
    assert "c4n" not in line and "\n" not in line
    assert caught.value.exit_code == 2
