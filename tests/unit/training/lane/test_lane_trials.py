"""Trials on one lane: nothing of one is left for the next, and a pause leaves no mark."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raytune_ft.metrics.report import value_in
from raytune_ft.paths import read_json
from raytune_ft.training.lane import checkpoint as checkpoints
from raytune_ft.training.lane.checkpoint import read_checkpoint
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.spec import Copied

World = Callable[..., object]


def test_a_trial_learns_and_leaves_what_the_other_steps_read(lane_world) -> None:
    world = lane_world(train={"max_steps": 30, "eval_steps": 10})
    desk = world.lane(world.start("0000"))
    assert desk.outcomes["0000"].kind == "completed"
    first, last = world.losses("0000")[0][2], world.losses("0000")[-1][2]
    assert last < 0.5 * first
    assert [report["step"] for report in desk.reports["0000"]] == [10, 20, 30]
    checkpoint = world.run.trial("0000").checkpoints / "step-000030"
    assert (checkpoint / "adapter_model.safetensors").is_file()
    timing = json.loads((world.run.trial("0000").root / "timing.json").read_text())
    assert timing["taken"] <= timing["first_step"] <= timing["ended"]


def test_a_b_a_on_one_lane_gives_the_first_trial_twice_to_the_last_bit(lane_world) -> None:
    world = lane_world()
    different = {"train__learning_rate": 5e-3, "method__r": 16, "train__per_device_train_batch_size": 4, "seed": 7}
    world.lane(world.start("0000"), world.start("0001", **different), world.start("0002"))
    assert world.losses("0000") == world.losses("0002")
    assert world.losses("0000") != world.losses("0001")
    first, again = (read_checkpoint(world.run.trial(name).checkpoints / "step-000006") for name in ("0000", "0002"))
    assert all(torch.equal(tensor, again.weights[name]) for name, tensor in first.weights.items())


def test_a_fresh_process_gives_the_same_curve(lane_world, tmp_path: Path) -> None:
    world = lane_world()
    world.lane(world.start("0000", seed=3), world.start("0001"))
    (tmp_path / "experiment.json").write_text(world.experiment.model_dump_json())
    script = """
import sys
from pathlib import Path
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.paths import RunDirectory
from raytune_ft.training.lane.model.base import load_lane_base
from raytune_ft.training.lane.loop import LaneLoop
from raytune_ft.training.lane.orders import GoOn, Quit, Start
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.spec import TrialSpec

experiment = Experiment.model_validate_json(Path(sys.argv[1]).read_text())
spec = TrialSpec.of("0002", {}, experiment, RunDirectory(Path(sys.argv[2])))

class LaneOrders:
    waiting = [Start(spec)]
    def in_touch(self):
        return True
    def orders(self, free, wait_s):
        found, self.waiting = self.waiting, []
        return found
    def report(self, trial, report):
        self.waiting.append(GoOn(trial))
    def ended(self, trial, outcome):
        self.waiting = [Quit()]

lane = Lane(packed=1)
LaneLoop(load_lane_base(experiment, lane.step, share=True), LaneOrders(), Ranks(), lane, experiment).run()
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "experiment.json"), str(world.run.root)], check=True)
    for (_, train, evaluation), (_, fresh_train, fresh_evaluation) in zip(
        world.losses("0001"), world.losses("0002"), strict=True
    ):
        assert train == pytest.approx(fresh_train, rel=1e-6)
        assert evaluation == pytest.approx(fresh_evaluation, rel=1e-6)


def test_a_paused_trial_goes_on_elsewhere_as_if_it_had_not_paused(lane_world) -> None:
    world = lane_world(method={"type": "lora", "r": 8, "alpha": 16, "dropout": 0.1})
    world.lane(world.start("0000"))
    world.lane(world.start("0001"), world.start("0002", seed=5), drops={"0001": 2})
    assert [step for step, _, _ in world.losses("0001")] == [2]
    world.lane(world.start("0003", seed=9), world.start("0001"))
    assert world.losses("0001") == world.losses("0000")


def test_no_two_passes_draw_the_same_dropout_also_where_an_epoch_ends_with_fewer(lane_world) -> None:
    from raytune_ft.data.arrow_rows import ArrowRows
    from raytune_ft.training.lane.ranks import Ranks
    from raytune_ft.training.lane.trial import RunningTrial, Splits

    train = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4, "max_steps": 9}
    world = lane_world(train=train)  # 10 passes an epoch
    splits = Splits(ArrowRows(world.run.data / "train"), ArrowRows(world.run.data / "validation"))
    trial = RunningTrial(world.start("0000").spec, world.base, splits, Ranks(), None)
    draws, passes = [], []
    for trial.step in range(9):
        shares = trial.shares()
        draws += [share.draw for share in shares]
        passes.append(len(shares))
    assert min(passes) < max(passes) == 4, "no step had fewer passes, so this shows nothing"
    assert len(set(draws)) == len(draws)


def test_a_copied_checkpoint_carries_weights_optimizer_and_place_in_the_data(lane_world) -> None:
    world = lane_world()
    world.lane(world.start("0000"))
    world.lane(world.start("0001"), drops={"0001": 2})
    world.lane(world.start("0002", copy_from=world.run.trial("0001").checkpoints / "step-000002"))
    assert world.losses("0002") == world.losses("0000")[1:]


def test_a_trial_that_ended_before_its_lane_died_is_not_trained_again(lane_world) -> None:
    world = lane_world()
    world.lane(world.start("0000"))
    before = world.run.trial("0000").metrics.read_bytes()
    desk = world.lane(world.start("0000"))
    assert desk.outcomes["0000"].kind == "completed"
    assert world.run.trial("0000").metrics.read_bytes() == before


def test_a_copy_keeps_its_own_curve_and_its_first_line_says_whose_weights_it_took(lane_world) -> None:
    world = lane_world()
    world.lane(world.start("0000"), drops={"0000": 2})
    world.lane(world.start("0001", train__learning_rate=1e-6), drops={"0001": 2})
    own, donor = read_metrics(world.run.trial("0001").metrics), world.run.trial("0000").checkpoints
    shutil.rmtree(world.run.trial("0001").checkpoints)
    start = world.start("0001", copy_from=donor / "step-000002", train__learning_rate=5e-3)
    copied = dataclasses.replace(start, spec=dataclasses.replace(start.spec, copied=Copied("0000", 2)))
    world.lane(copied, drops={"0001": 4})
    world.lane(copied)  # goes on from its own checkpoint now
    lines = read_metrics(world.run.trial("0001").metrics)
    assert lines[0] == {**own[0], "checkpoint": None}
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [line.get("copied_from") for line in lines] == [None, "0000", None]
    assert lines[1]["parameters"] == {"train.learning_rate": 5e-3}
    assert read_json(world.run.trial("0001").config)["copied"] == {"trial": "0000", "step": 2}
    kept = {path.name for path in world.run.trial("0001").checkpoints.iterdir()}
    assert kept == {"step-000004", "step-000006"}


def test_a_checkpoint_that_its_trial_removes_while_it_is_copied_is_passed_over(
    lane_world, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = lane_world()
    world.lane(world.start("0000"))
    donor = world.run.trial("0000").checkpoints
    asked, last = sorted(donor.iterdir())[-2:]
    real = checkpoints.check_whole

    def gone_after(directory: Path) -> None:
        real(directory)
        if directory == asked:
            shutil.rmtree(asked)

    monkeypatch.setattr(checkpoints, "check_whole", gone_after)
    world.lane(world.start("0001", copy_from=asked))
    assert not asked.exists() and last.exists()
    assert world.outcome("0001")["outcome"] == "completed"


def test_a_copy_takes_the_donors_last_checkpoint_where_the_asked_one_is_gone(lane_world) -> None:
    world = lane_world()
    world.lane(world.start("0000"))
    donor = world.run.trial("0000").checkpoints
    shutil.rmtree(donor / "step-000002", ignore_errors=True)
    world.lane(world.start("0001", copy_from=donor / "step-000002"))
    assert world.outcome("0001")["outcome"] == "completed"
    shutil.rmtree(donor)
    world.lane(world.start("0002", copy_from=donor / "step-000002"))
    assert world.outcome("0002")["outcome"] == "failed" and "step-000002" in world.outcome("0002")["reason"]


def test_a_trial_is_held_against_the_base_and_not_against_its_first_batch(lane_world) -> None:
    """Trials that hardly move, each with another row as its first batch: some rows are easy."""
    world = lane_world(train={"learning_rate": 1e-9, "per_device_train_batch_size": 1, "max_steps": 2, "eval_steps": 2})
    seeds = range(12)
    desk = world.lane(*(world.start(f"{seed:04d}", seed=seed, train__divergence_factor=1.05) for seed in seeds))
    assert {outcome.kind for outcome in desk.outcomes.values()} == {"completed"}
    own = world.losses("0000")[-1][2]
    assert value_in(read_json(world.run.base_loss), "eval_loss") == pytest.approx(own, rel=1e-4)


def test_the_base_is_measured_once_in_a_study(lane_world, monkeypatch: pytest.MonkeyPatch) -> None:
    from raytune_ft.training.lane import loop

    world, real, measured = lane_world(), loop.evaluate_base, []

    def counted(stepper, trial, ranks):
        measured.append(trial.name)
        return real(stepper, trial, ranks)

    monkeypatch.setattr(loop, "evaluate_base", counted)
    world.lane(world.start("0000"), world.start("0001"), packed=2)
    world.lane(world.start("0002"))  # another lane
    assert measured == ["0000"]


def test_a_base_loss_of_other_rows_does_not_count(lane_world) -> None:
    world = lane_world(train={"max_steps": 2, "eval_steps": 2})
    before = {"schema": 1, "eval_loss": 1e-6, "of": {"base_model": "another", "data_fingerprint": "other"}}
    world.run.root.mkdir(exist_ok=True)
    world.run.base_loss.write_text(json.dumps(before))
    assert world.lane(world.start("0000")).outcomes["0000"].kind == "completed"
    assert value_in(read_json(world.run.base_loss), "eval_loss") > 1e-3
    world.run.base_loss.write_text("{half")
    assert world.lane(world.start("0001")).outcomes["0001"].kind == "completed"


def test_of_two_lanes_that_begin_at_once_the_first_to_measure_the_base_counts(lane_world) -> None:
    from raytune_ft.training import base_loss

    world = lane_world(train={"max_steps": 2, "eval_steps": 2})
    spec = world.start("0000").spec
    assert base_loss.keep_base_loss(spec, 3.0) == 3.0 and base_loss.keep_base_loss(spec, 3.1) == 3.0
    assert base_loss.keep_base_loss(world.start("0001").spec, float("nan")) == 3.0
    assert base_loss.read_base_loss(spec) == 3.0
