"""What may still win keeps its weights; nobody who lost or ended keeps anything else."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.config.search.goals import Metric
from raytune_ft.methods.weights.peft_files import ADAPTER_WEIGHTS
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.search.results.causes import NothingWon
from raytune_ft.search.results.leaderboard import LeaderboardRow, build_leaderboard, choose_winner, in_order
from raytune_ft.search.trials.kept_checkpoints import KeptCheckpoints, may_still_win
from raytune_ft.training.lane.checkpoint import MANIFEST, OPTIMIZER
from raytune_ft.training.metrics_log import append_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind

PBT = {"scheduler": {"type": "pbt", "perturbation_interval": 5}}


@pytest.fixture
def trial_ended(run: RunDirectory) -> Callable[..., None]:
    """A trial on a lane that reported at steps 5 and 15; the best is the first."""

    def leave(name: str, loss: float, kind: str | None = "completed", mib: float = 1.0) -> None:
        trial = run.trial(name)
        for step, value in ((5, loss), (15, loss + 0.01)):
            checkpoint = trial.checkpoints / f"step-{step:06d}"
            checkpoint.mkdir(parents=True)
            for file in (ADAPTER_WEIGHTS, OPTIMIZER):
                (checkpoint / file).write_bytes(b"x")
            write_json(checkpoint / MANIFEST, {"schema": 1, "files": {ADAPTER_WEIGHTS: "1", OPTIMIZER: "2"}})
            report = {
                "step": step,
                "eval_loss": value,
                "adapter_mib": mib,
                "seconds": 1.0,
                "checkpoint": checkpoint.name,
            }
            append_metrics(trial.metrics, report)
        if kind is not None:
            Outcome(OutcomeKind(kind), "", 15, loss).write(trial)

    return leave


def left(run: RunDirectory) -> dict[str, set[str]]:
    """Files by trial and checkpoint, the manifests aside."""
    found: dict[str, set[str]] = {}
    for path in run.trials.glob("*/checkpoints/*/*"):
        if path.name != MANIFEST:
            found.setdefault(f"{path.parts[-4]}/{path.parts[-2]}", set()).add(path.name)
    return found


def test_of_ended_trials_the_first_ones_keep_their_best_weights_and_nothing_else(
    make_experiment, run, trial_ended
) -> None:
    kept = KeptCheckpoints(make_experiment(keep_checkpoints=2), run, ())
    trial_ended("0099", 0.05, None)  # it trains
    for number, loss in enumerate((0.9, 0.5, 0.7, 0.6)):
        trial_ended(f"{number:04d}", loss)
        kept.ended(f"{number:04d}")
    whole = {f"0099/step-{step:06d}": {ADAPTER_WEIGHTS, OPTIMIZER} for step in (5, 15)}
    assert left(run) == {"0001/step-000005": {ADAPTER_WEIGHTS}, "0003/step-000005": {ADAPTER_WEIGHTS}, **whole}
    kept.ended("0099")  # it was told of too early: it has no outcome
    assert left(run).keys() >= whole.keys()


@pytest.mark.parametrize("kind", ["diverged", "out_of_memory"])
def test_what_can_not_win_keeps_no_weights(make_experiment, run, trial_ended, kind: str) -> None:
    trial_ended("0000", 0.1, kind)
    KeptCheckpoints(make_experiment(), run, ()).ended("0000")
    assert left(run) == {}


def test_all_keeps_the_best_weights_of_all(make_experiment, run, trial_ended) -> None:
    kept = KeptCheckpoints(make_experiment(keep_checkpoints="all"), run, ())
    for number in range(6):
        trial_ended(f"{number:04d}", 0.1 * number)
        kept.ended(f"{number:04d}")
    assert left(run) == {f"{number:04d}/step-000005": {ADAPTER_WEIGHTS} for number in range(6)}


def test_of_several_goals_the_front_stays_as_any_of_it_may_come_to_win(make_experiment, run, trial_ended) -> None:
    goals = {"metrics": [{"name": "eval_loss"}, {"name": "adapter_mib"}], "best": "eval_loss within 1 %"}
    experiment = make_experiment(keep_checkpoints=1, **goals)
    kept = KeptCheckpoints(experiment, run, ())
    for name, loss, mib in (("0000", 0.300, 9.0), ("0001", 0.3005, 5.0), ("0002", 0.302, 4.0), ("0003", 0.303, 6.0)):
        trial_ended(name, loss, mib=mib)
        kept.ended(name)
    trial_ended("0005", 0.304, mib=7.0)
    kept.ended("0005")
    assert {name[:4] for name in left(run)} == {"0000", "0001", "0002", "0003"}, "0003 comes next should they be beaten"
    trial_ended("0004", 0.298, mib=9.5)  # the limit moves, and 0002 is not within it any more
    kept.ended("0004")
    winner = choose_winner(experiment, run, build_leaderboard(experiment, run), "f")
    assert winner.trial == "0001" and (run.root / winner.checkpoint / ADAPTER_WEIGHTS).is_file()


def test_trials_of_a_population_keep_all_until_the_study_has_ended(make_experiment, run, trial_ended) -> None:
    """Another trial may have yet to copy them, weights and optimizer."""
    kept = KeptCheckpoints(make_experiment(keep_checkpoints=1, **PBT), run, ())
    for name, loss in (("0000", 0.5), ("0001", 0.4)):
        trial_ended(name, loss)
        kept.ended(name)
    assert all(files == {ADAPTER_WEIGHTS, OPTIMIZER} for files in left(run).values()) and len(left(run)) == 4
    kept.study_ended(build_leaderboard(make_experiment(**PBT), run))
    assert left(run) == {"0001/step-000005": {ADAPTER_WEIGHTS}}


def test_the_winner_of_before_stays_until_there_is_another(make_experiment, run, trial_ended) -> None:
    """`evaluate` and `promote` take it while `--extend` goes on."""
    experiment = make_experiment(keep_checkpoints=1)
    trial_ended("0000", 0.5)
    KeptCheckpoints(experiment, run, ()).ended("0000")
    choose_winner(experiment, run, build_leaderboard(experiment, run), "f")
    kept = KeptCheckpoints(experiment, run, ["0000"])
    for name, loss in (("0001", 0.4), ("0002", 0.3)):
        trial_ended(name, loss)
        kept.ended(name)
    assert {name[:4] for name in left(run)} == {"0000", "0002"}
    board = build_leaderboard(experiment, run)
    choose_winner(experiment, run, board, "f")
    KeptCheckpoints(experiment, run, ()).study_ended(board)
    assert {name[:4] for name in left(run)} == {"0002"}


def test_a_later_driver_goes_on_where_a_killed_one_stopped_removing(
    make_experiment, run, trial_ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = make_experiment(keep_checkpoints=1)
    kept = KeptCheckpoints(experiment, run, ())
    trial_ended("0000", 0.5)
    kept.ended("0000")
    trial_ended("0001", 0.4)
    with monkeypatch.context() as killed:
        killed.setattr("raytune_ft.paths.shutil.rmtree", lambda *args, **kwargs: None)
        kept.ended("0001")
    half = run.trial("0000").checkpoints
    assert not list(half.glob("step-*")), "a checkpoint that is about to go still has its name"
    assert [row.trial for row in build_leaderboard(experiment, run) if row.checkpoint] == ["0001"]
    KeptCheckpoints(experiment, run, ["0000", "0001"]).study_ended(build_leaderboard(experiment, run))
    assert left(run) == {"0001/step-000005": {ADAPTER_WEIGHTS}} and not list(half.iterdir())


def test_a_leaderboard_names_no_weights_that_are_gone(make_experiment, run, ended) -> None:
    ended("0000", "completed", {5: 0.4, 15: 0.3})
    ended("0001", "pruned", {5: 0.5})
    (run.trial("0001").checkpoints / "step-000005").rmdir()
    board = build_leaderboard(make_experiment(), run)
    assert [(row.trial, row.value, row.checkpoint) for row in board] == [
        ("0000", 0.3, "trials/0000/checkpoints/step-000015"),
        ("0001", 0.5, None),
    ]


def test_a_checkpoint_that_a_killed_trial_never_finished_is_not_its_best(make_experiment, run, ended) -> None:
    ended("0000", "pruned", {5: 0.4, 15: 0.3})
    (run.trial("0000").checkpoints / "step-000015").rmdir()
    (row,) = build_leaderboard(make_experiment(), run)
    assert (row.value, row.step, Path(row.checkpoint or "").name) == (0.4, 5, "step-000005")


def arrives(run: RunDirectory, name: str, loss: float | None) -> None:
    """Of an isolated trial that was stopped meanwhile: the checkpoint of step 25 or, with a loss, its line after it."""
    if loss is None:
        (run.trial(name).checkpoints / "step-000025").mkdir()
        (run.trial(name).checkpoints / "step-000025" / ADAPTER_WEIGHTS).write_bytes(b"x")
    else:
        report = {"step": 25, "eval_loss": loss, "seconds": 2.0, "checkpoint": "step-000025"}
        append_metrics(run.trial(name).metrics, report)


@pytest.mark.parametrize("others", [0, 1, 5])
@pytest.mark.parametrize("first", [0.5, 2.0])
def test_a_checkpoint_whose_line_is_yet_to_come_stays_until_the_study_has_ended(
    make_experiment, run, trial_ended, first: float, others: int
) -> None:
    """A stopped trial's workers copy a checkpoint and write its line while the driver already tidies up."""
    experiment = make_experiment(keep_checkpoints=1)
    kept = KeptCheckpoints(experiment, run, ())
    trial_ended("0009", 1.0, "pruned")
    kept.ended("0009")
    trial_ended("0000", first, "pruned")
    arrives(run, "0000", None)
    kept.ended("0000")
    for number in range(others):
        trial_ended(f"000{number + 1}", 0.4 - 0.01 * number, "pruned")
        kept.ended(f"000{number + 1}")
    arrives(run, "0000", 0.1)
    board = build_leaderboard(experiment, run)
    winner = choose_winner(experiment, run, board, "f")
    assert (winner.trial, winner.value, winner.step) == ("0000", 0.1, 25)
    KeptCheckpoints(experiment, run, ()).study_ended(board)
    assert left(run) == {"0000/step-000025": {ADAPTER_WEIGHTS}}


def test_a_checkpoint_that_comes_after_its_trial_is_looked_at_again_when_others_end(
    make_experiment, run, trial_ended
) -> None:
    kept = KeptCheckpoints(make_experiment(keep_checkpoints=1), run, ())
    trial_ended("0000", 0.5, "pruned")
    kept.ended("0000")
    arrives(run, "0000", None)
    arrives(run, "0000", 0.6)
    trial_ended("0001", 0.4)
    kept.ended("0001")
    assert left(run) == {"0001/step-000005": {ADAPTER_WEIGHTS}}


def test_what_is_reported_after_the_board_does_not_take_the_winners_weights(make_experiment, run, trial_ended) -> None:
    experiment = make_experiment(keep_checkpoints=1)
    trial_ended("0000", 0.5, "pruned")
    arrives(run, "0000", None)
    board = build_leaderboard(experiment, run)
    winner = choose_winner(experiment, run, board, "f")
    arrives(run, "0000", 0.1)
    KeptCheckpoints(experiment, run, ()).study_ended(board)
    assert (run.root / (winner.checkpoint or "") / ADAPTER_WEIGHTS).is_file() and len(left(run)) == 1


def test_what_a_failed_trial_learnt_stays_until_another_has_won(make_experiment, run, trial_ended) -> None:
    experiment = make_experiment()
    kept = KeptCheckpoints(experiment, run, ())
    trial_ended("0000", 0.1, "failed")
    kept.ended("0000")
    assert left(run) == {f"0000/step-{step:06d}": {ADAPTER_WEIGHTS} for step in (5, 15)}
    with pytest.raises(NothingWon):
        choose_winner(experiment, run, build_leaderboard(experiment, run), "f")
    trial_ended("0001", 0.5)
    kept.ended("0001")
    kept.study_ended(build_leaderboard(experiment, run))
    assert left(run) == {"0001/step-000005": {ADAPTER_WEIGHTS}}


@pytest.mark.parametrize("best", [None, "eval_loss within 10 %"])
@pytest.mark.parametrize("goals", [1, 2, 3])
def test_whatever_comes_the_first_places_of_the_end_have_kept_their_weights(goals: int, best: str | None) -> None:
    metrics = [Metric(name="eval_loss"), Metric(name="train_seconds"), Metric(name="tokens")][:goals]
    for seed in range(500):
        draw = random.Random(seed)
        keep, rows, kept = draw.choice([1, 2, 3]), [], []
        names = [f"{number:04d}" for number in range(draw.randrange(1, 15))]
        for name in draw.sample(names, len(names)):
            values = {metric.name: draw.choice([0.1, 0.5, 0.9, 1.0, 1.05, 1.4]) for metric in metrics}
            rows.append(LeaderboardRow(None, name, values["eval_loss"], "completed", "", 1, 1.0, {}, "there", values))
            staying = may_still_win([*kept, rows[-1]], metrics, best if goals > 1 else None, keep)
            kept = [row for row in (*kept, rows[-1]) if row.trial in staying]
        board = in_order(sorted(rows, key=lambda row: row.trial), metrics, best if goals > 1 else None)
        assert {row.trial for row in board[:keep]} <= {row.trial for row in kept}, f"{seed=}"
