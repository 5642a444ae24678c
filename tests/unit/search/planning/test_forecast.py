"""What a sweep will take: spans, work under the scheduler, paces before and after a rung, rows that are counted."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.load import load_experiment, with_parameters
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.execution.devices import Decision
from raytune_ft.hardware.device import Device
from raytune_ft.objectives.prepared import prepare
from raytune_ft.paths import read_json
from raytune_ft.search.budget.plan_log import PlanLog
from raytune_ft.search.budget.spent import Meter
from raytune_ft.search.planning import plan, speed
from raytune_ft.search.planning.bounds import Bounds
from raytune_ft.search.planning.forecast import (
    END_S,
    PRIVATE_RAY_S,
    Paces,
    device_hours,
    expected_paces,
    hours,
    measured_paces,
)
from raytune_ft.search.planning.groups import Groups, Packs, packs_of
from raytune_ft.search.planning.memory.activations import Shape
from raytune_ft.search.planning.memory.peak import peak_memory
from raytune_ft.search.planning.memory.weights import WorkerMemory
from raytune_ft.search.planning.row_lengths import RowLengths, row_lengths
from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.speed import Speed, expected_speed
from raytune_ft.search.planning.work import narrowed, played_through, work_of
from raytune_ft.search.scheduling.replay import PastTrial
from raytune_ft.search.scheduling.schedulers import make_scheduler

CPU = Device("a CPU", gflops={"bfloat16": 200.0, "float16": 20.0, "float32": 100.0})
ROWS = RowLengths(30.0, 10.0, 60, 1.0, 96, 2880, exact=True)
SMOL = Shape(hidden=576, layers=30, intermediate=1536, heads=9, kv_heads=3, head_size=64, vocabulary=49152)


def point(value: float) -> Span:
    return Span(value, value, value)


def test_spans_add_and_multiply_end_by_end() -> None:
    assert Span(1, 2, 3) + Span(10, 20, 30) == Span(11, 22, 33) and Span(1, 2, 3) + 1.0 == Span(2, 3, 4)
    assert Span(1, 2, 3) * Span(10, 20, 30) == Span(10, 40, 90) and Span(1, 2, 3) * 2.0 == Span(2, 4, 6)
    assert Span.within(2.0, 10.0) == Span(5.0, 10.0, 20.0)


@pytest.mark.parametrize("lengths", [[45], [20, 90]], ids=["as long as the file says", "of searched lengths"])
def test_sweeps_played_through_are_those_of_the_scheduler(make_experiment, lengths) -> None:
    """The mean over random orders of quality, with the scheduler of a sweep."""
    experiment = make_experiment(space={"parameters": {"train.max_steps": {"choice": lengths}}})
    draw, totals = random.Random(5), []
    for _ in range(60):
        scheduler = make_scheduler(experiment, experiment.search)
        scheduler.set_search_properties("eval_loss", "min")
        total = 0
        for number in range(8):
            parameters, loss = {"train.max_steps": draw.choice(lengths)}, draw.random()
            trial = PastTrial.of(str(number), parameters)
            scheduler.on_trial_add(None, trial)
            for step in with_parameters(experiment, parameters).report_steps():
                if scheduler.on_trial_result(None, trial, {"step": step, "eval_loss": loss}) == scheduler.STOP:
                    break
            total += step
        totals.append(total)
    played = [steps for steps, _ in played_through(experiment)]
    assert statistics.fmean(played) == pytest.approx(statistics.fmean(totals), rel=0.15)
    assert min(played) >= min(lengths) + 7 * 5 and max(played) <= 8 * max(lengths)
    assert played_through(make_experiment(scheduler={"type": "none"})) == []


def test_work_has_the_ranges_ends_and_the_likely_between_them(make_experiment) -> None:
    work = work_of(make_experiment(), Bounds(80, 360), 100, ROWS)
    assert (work.steps.low, work.steps.high) == (80, 360) and 100 < work.steps.likely < 300
    assert work.tokens == work.steps * 8.0 * 30.0 and work.trial_tokens == point(45 * 8 * 30.0)
    assert work.evaluated_tokens == work.reports * 2880.0 and work.reports.low == 8 and work.reports.high == 24
    closer = narrowed(make_experiment(), work)
    assert work.steps.low <= closer.steps.low < closer.steps.likely < closer.steps.high < work.steps.high
    assert closer.tokens.likely == pytest.approx(work.tokens.likely, rel=0.01)
    assert work_of(make_experiment(), Bounds(80, 360), 100, None).tokens is None


def test_without_a_scheduler_the_work_is_known(make_experiment) -> None:
    work = work_of(make_experiment(scheduler={"type": "none"}), Bounds(360, 360), 360, ROWS)
    assert work.steps == point(360) and work.tokens == point(360 * 8 * 30.0)


def test_sampled_rows_widen_the_tokens(make_experiment) -> None:
    sampled = RowLengths(30.0, 10.0, 60, 1.0, 96, 2880, exact=False)
    work = work_of(make_experiment(scheduler={"type": "none"}), Bounds(360, 360), 360, sampled)
    assert work.tokens.low < work.tokens.likely == 360 * 8 * 30.0 < work.tokens.high


def test_hours_are_what_trains_at_the_same_time_and_what_a_lane_does_by_itself(make_experiment) -> None:
    work = work_of(make_experiment(scheduler={"type": "none"}), Bounds(360, 360), 360, ROWS)
    paces = Paces(point(20.0), point(1.0), point(0.01), point(0.001), report=0.5, beside=4.0, groups=2)
    training = 360 * 8 * 30 * 0.01 / 4
    reports = work.reports.high  # 8 trials with one report each
    assert reports == 8
    between = (8 * 2880 * 0.001 + 8 * 0.5 + 8 * 1.0) / 2
    assert hours(work, paces).likely * 3600 == pytest.approx(20 + training + between + END_S, rel=1e-6)
    assert device_hours(point(2.0), groups=2, devices=4) == point(16.0)


def test_paces_are_measured_by_a_first_report() -> None:
    report = {"step": 5, "tokens": 1000, "seconds": 30.0, "eval_seconds": 10.0}
    paces = measured_paces(report, 2000, at_once=2, groups=1, elapsed_s=50.0, since_start_s=None)
    assert paces.begin == point(20.0)
    assert paces.token.likely == pytest.approx(0.02) and paces.evaluated.likely == pytest.approx(0.005)
    assert (paces.beside, paces.groups) == (2.0, 1)
    alone = measured_paces(report, 2000, at_once=2, groups=2, elapsed_s=50.0, since_start_s=42.0)
    assert alone.start.likely == 12.0 and alone.begin == point(8.0)
    assert measured_paces({"step": 5, "tokens": 0, "seconds": 3.0}, 1, 1, 1, 9.0, None) is None


def test_before_the_first_rung_times_lie_within_a_factor_that_is_smaller_where_products_were_measured() -> None:
    paces = expected_paces(Speed(0.01, 0.005, "a GPU", measured=False), 1, None)
    assert paces.token == Span(0.005, 0.01, 0.02) and paces.begin.high == 4 * paces.begin.low
    measured = expected_paces(Speed(0.01, 0.005, "a CPU", measured=True), 1, None)
    assert paces.token.low < measured.token.low < measured.token.likely < measured.token.high < paces.token.high
    isolated = expected_paces(Speed(0.01, 0.005, "a device"), 2, 38.0)
    assert isolated.start.likely == 38.0 and isolated.begin.likely == PRIVATE_RAY_S and isolated.beside == 2


@pytest.mark.parametrize(("gpu", "known"), [("NVIDIA H100 80GB HBM3", True), ("NVIDIA L4", True), ("Voodoo 3", False)])
def test_a_gpu_is_known_by_its_name_or_its_speed_is_not(make_experiment, gpu: str, known: bool) -> None:
    experiment, device = make_experiment().computing_in("bfloat16"), Device(gpu, (9, 0))
    resources = experiment.resources.model_copy(update={"gpus_per_worker": 1, "workers": 2})
    experiment = experiment.model_copy(update={"resources": resources})
    found = expected_speed(experiment, Lane(), SMOL, device, 4000.0)
    assert (found is not None) is known
    if found:
        assert found.train_s == 2 * found.evaluate_s > 0 and not found.measured
        small = expected_speed(experiment, Lane(), SMOL, device, 40.0)
        assert small.train_s > 10 * found.train_s  # a GPU that waits for its next kernel
        assert expected_speed(experiment.computing_in("float32"), Lane(), SMOL, device, 4000.0).train_s > found.train_s
    assert expected_speed(experiment, Lane(), SMOL, None, 4000.0) is None


def test_a_cpus_measured_products_tell_its_speed(make_experiment) -> None:
    """A step is its products, and a rest that takes as long in every type."""
    experiment = make_experiment()
    flops, rest = 4 * SMOL.linear_weights, speed.LANE_REST / 100e9
    wide = expected_speed(experiment, Lane(), SMOL, CPU, 240.0)
    half = expected_speed(experiment.computing_in("bfloat16"), Lane(), SMOL, CPU, 240.0)
    assert wide.train_s == pytest.approx(flops * (1 / 100e9 + rest)) and wide.measured
    assert half.train_s == pytest.approx(flops * (1 / 200e9 + rest))
    assert expected_speed(experiment, Isolated(), SMOL, CPU, 240.0).train_s > 1.5 * wide.train_s


def test_of_unlike_nodes_the_slowest_is_planned_with(make_experiment) -> None:
    slow = Device("an old CPU", gflops={"bfloat16": 10.0, "float32": 50.0})
    assert speed.slowest([CPU, slow], make_experiment()) is slow
    assert speed.slowest([Device("A100", (8, 0)), Device("T4", (7, 5))], make_experiment()).name == "T4"
    assert speed.slowest([], make_experiment()) is None


def test_errors_that_have_nothing_to_do_with_one_another_do_not_meet_at_their_ends() -> None:
    one, other = Span.within(2.0, 10.0), Span.within(1.5, 3.0)
    product, worst = one.times_unrelated(other), one * other
    assert product.likely == worst.likely == 30.0
    assert worst.low < product.low < 30.0 / 2.0 and 30.0 * 2.0 < product.high < worst.high
    assert point(2.0).times_unrelated(Span(0.0, 1.0, 2.0)) == Span(0.0, 2.0, 4.0)  # zero has no factor


def test_a_plan_for_few_rows_is_no_range_of_eighty_times(toy_experiment) -> None:
    """Batches of 4 to 16 rows, ASHA over rungs of 40 and 120 steps, and rows that were only sampled: as `init` asks."""
    space = {
        "train.learning_rate": {"loguniform": [1e-4, 5e-3]},
        "train.per_device_train_batch_size": {"choice": [4, 8, 16]},
    }
    search = {"space": {"parameters": space}, "scheduler": {"type": "asha", "grace_period": 40}, "trials": 16}
    train = {"max_steps": 200, "dtype": "float32"}
    planned = plan.plan_sweep(load_experiment(toy_experiment(search=search, train=train)), CPU)
    assert planned.hours.high < 6 * planned.hours.low


def test_rows_are_counted_where_they_are_prepared_and_else_sampled_by_the_bases_tokenizer(
    toy_experiment, tmp_path: Path
) -> None:
    experiment = load_experiment(toy_experiment())
    sampled = row_lengths(experiment)
    prepare(experiment, tmp_path / "runs/toy/data")
    counted = row_lengths(experiment)
    assert counted.exact and not sampled.exact
    assert sampled.mean == pytest.approx(counted.mean, rel=0.1) and counted.longest <= 64
    assert sampled.validation_rows == counted.validation_rows == 32
    assert sampled.answers == pytest.approx(counted.answers, abs=1.0)


def test_the_largest_of_many_batches_is_above_the_mean_and_below_the_longest_rows() -> None:
    assert 8 * ROWS.mean < ROWS.of_batch(8) < 8 * ROWS.longest and ROWS.of_batch(1) < ROWS.longest
    assert ROWS.mean < ROWS.width() <= ROWS.longest


def test_a_lane_packs_small_passes_from_the_start(make_experiment) -> None:
    experiment = make_experiment(max_concurrent=8)
    assert packs_of(experiment, Lane(), ROWS, groups=1) == Packs(4, 8)
    assert packs_of(experiment, Lane(), ROWS, groups=2) == Packs(4, 4)
    assert packs_of(experiment, Lane(packed=2), ROWS, groups=1) == Packs(2, 2, doubles=False)
    assert packs_of(experiment, Isolated(), ROWS, groups=1) == Packs(1, 1, doubles=False)
    assert packs_of(make_experiment(), Lane(), ROWS, groups=1) == Packs(1, 1)


def test_the_peak_grows_with_what_the_space_and_the_pack_may_bring(make_experiment, monkeypatch) -> None:
    from raytune_ft.search.planning.memory import peak

    monkeypatch.setattr(peak, "model_config", lambda base: {**CONFIG})
    memory = WorkerMemory(
        256 * peak.MIB, True, 10**7, 60 * peak.MIB, 40 * peak.MIB, 60 * peak.MIB, optimizer_on_host=False
    )
    batches = {"parameters": {"train.per_device_train_batch_size": {"choice": [4, 64]}}}
    work = work_of(make_experiment(), Bounds(80, 360), 100, ROWS)
    one = peak_memory(make_experiment(space=batches), Lane(), memory, ROWS, work, Groups(1))
    many = peak_memory(make_experiment(space=batches, max_concurrent=8), Lane(), memory, ROWS, work, Groups(1))
    assert one.whole.low < one.whole.likely <= one.whole.high
    assert many.packed == 8 and many.activations > 2 * one.activations and many.whole.likely > one.whole.likely
    short = work_of(make_experiment(scheduler={"type": "none"}, trials=1), Bounds(2, 2), 2, ROWS)
    assert (
        peak_memory(make_experiment(space=batches), Lane(), memory, ROWS, short, Groups(1)).activations
        < one.activations
    )
    assert peak_memory(make_experiment(), Lane(), None, ROWS, work, Groups(1)) is None
    assert peak_memory(make_experiment(), Lane(), memory, None, work, Groups(1)) is None


CONFIG: dict[str, Any] = {
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}


def test_the_first_report_leaves_a_forecast_that_stays(toy_experiment, tmp_path: Path, run) -> None:
    experiment = load_experiment(toy_experiment())
    run = type(run)(tmp_path / "runs/toy")
    prepare(experiment, run.data)
    now = [0.0]
    meter = Meter(run.spent, 1, clock=lambda: now[0])
    plan_log = PlanLog(experiment, run, meter, clock=lambda: now[0])
    plan_log.plan(Decision(experiment, (CPU,), None))
    planned = read_json(run.plan)
    assert planned["after_first_rung"] is None and planned["planned"]["hours"]["likely"] > 0
    assert planned["planned"]["memory_mib"]["likely"] > 500
    assert (planned["dtype"], planned["measured_gflops"]) == ("float32", 100.0)
    plan_log.shared_groups(1)
    plan_log.started("0000")
    now[0] = 40.0
    report = {"step": 2, "tokens": 400, "seconds": 10.0, "eval_seconds": 2.0}
    plan_log.reported("0000", {"training_iteration": 1})
    plan_log.reported("0000", report)
    after = read_json(run.plan)["after_first_rung"]
    assert (after["trial"], after["step"]) == ("0000", 2)
    assert 30 + 8 < 3600 * after["hours"]["low"] < 3600 * after["hours"]["likely"] < 3600 * after["hours"]["high"] < 120
    plan_log.reported("0001", {**report, "seconds": 1000.0})
    PlanLog(experiment, run, meter).plan(Decision(experiment, (CPU,), None))  # of the next driver
    assert read_json(run.plan)["after_first_rung"] == after


def test_cost_lies_between_the_prices_of_the_devices_that_it_may_be(make_experiment) -> None:
    experiment = make_experiment(budget={"prices": {"cpu": 0.1, "gpu": 2.0, "H100": 4.0}})
    assert plan.cost_of(experiment, point(10.0)) == point(1.0)
    resources = experiment.resources.model_copy(update={"gpus_per_worker": 1})
    assert plan.cost_of(experiment.model_copy(update={"resources": resources}), point(10.0)) == Span(20.0, 30.0, 40.0)
    assert plan.cost_of(make_experiment(), point(10.0)) is None
