"""Worker groups that really fit, what a lane of theirs packs, and what the plan says of time and memory for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.config.training import Resources
from raytune_ft.execution.devices import Decision
from raytune_ft.hardware.device import Device
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.search.budget.plan_log import PlanLog
from raytune_ft.search.budget.spent import Meter
from raytune_ft.search.planning import groups, plan
from raytune_ft.search.planning.memory.peak import DeviceMemory
from raytune_ft.search.planning.plan import Plan

CPU = Device("a CPU", gflops={"bfloat16": 200.0, "float16": 20.0, "float32": 100.0})
H100 = Device("NVIDIA H100 80GB HBM3", (9, 0))
Planned = Callable[..., Plan]


@pytest.fixture
def planned(toy_experiment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Planned:
    """`planned(gpus, at_once, ...)`: for a machine with so many GPUs, 16 CPUs, and `room_mib` for a worker."""

    def make(
        gpus: int,
        at_once: int,
        room_mib: float = 80_000.0,
        space: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        resources: dict[str, Any] | None = None,
        runner: dict[str, Any] | None = None,
    ) -> Plan:
        monkeypatch.setattr(plan, "gpus_here", lambda: [H100] * gpus)
        monkeypatch.setattr(groups.os, "cpu_count", lambda: 16)
        monkeypatch.setattr(
            plan, "memory_here", lambda on_gpu: DeviceMemory(room_mib, room_mib, "an H100") if gpus else None
        )
        search = {
            "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}, **(space or {})}},
            "scheduler": {"type": "none"},
            "trials": 32,
            "max_concurrent": at_once,
        }
        train = {"per_device_train_batch_size": 4, "max_steps": 45, "dtype": "bfloat16", **(train or {})}
        resources = {"gpus_per_worker": 1, **(resources or {})}
        file = toy_experiment(search=search, train=train, resources=resources, **({"runner": runner} if runner else {}))
        return plan.plan_here(load_experiment(file))

    return make


@pytest.mark.parametrize(
    ("gpus", "at_once", "more", "groups", "packed", "most"),
    [
        (1, 8, {}, 1, 8, 8),
        (1, 1, {}, 1, 1, 1),
        (1, 8, {"runner": {"type": "lane", "packed": 1}}, 1, 1, 1),
        (1, 8, {"runner": {"type": "lane", "packed": 2}}, 1, 2, 2),
        (4, 8, {}, 4, 2, 2),
        (8, 8, {}, 8, 1, 1),
        (16, 8, {}, 8, 1, 1),
        (4, 8, {"resources": {"workers": 2}}, 2, 4, 4),
        (4, 8, {"resources": {"cpus_per_worker": 8}}, 2, 4, 4),  # of 16 CPUs
        (4, 8, {"runner": {"type": "lane", "lanes": 2}}, 2, 4, 4),
        (4, 8, {"resources": {"gpus_per_worker": 0.5}}, 8, 1, 1),
    ],
)
def test_as_many_groups_train_as_fit_and_the_others_are_packed(
    planned: Planned, gpus: int, at_once: int, more: dict[str, Any], groups: int, packed: int, most: int
) -> None:
    found = planned(gpus, at_once, **more)
    assert (found.groups, found.worker_groups) == (groups, groups)
    assert found.peak is not None and found.peak.packed == packed
    workers = more.get("resources", {}).get("workers", 1) * more.get("resources", {}).get("gpus_per_worker", 1)
    assert found.device_hours == found.hours * (groups * workers)


@pytest.mark.parametrize(
    ("gpus_per_worker", "address", "workers"), [(0, None, 6), (0, "ray://head", 1), (1, None, 1), (0.5, None, 2)]
)
def test_workers_share_the_memory_of_what_they_are_on(
    gpus_per_worker: float, address: str | None, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    resources = Resources(workers=2, gpus_per_worker=gpus_per_worker)
    assert groups.workers_on_one(resources, 3) == workers
    found = groups.Groups(3, 45.0, workers).packed(groups.Packs(1, 64), lambda packed: 4.0 + packed)
    assert found.most == {6: 2, 1: 16, 2: 8}[workers]


def test_eight_trials_on_one_gpu_take_as_long_as_one_after_the_other_less_what_packing_gains(planned: Planned) -> None:
    one, eight = planned(1, 1), planned(1, 8, runner={"type": "lane", "packed": 1})
    assert eight.hours.likely == pytest.approx(one.hours.likely)
    on_eight = planned(8, 8)
    packed = planned(1, 8)
    assert on_eight.hours.likely < packed.hours.likely < one.hours.likely
    assert packed.peak.whole.likely > planned(1, 8, runner={"type": "lane", "packed": 1}).peak.whole.likely


def test_a_lane_packs_what_its_memory_holds(planned: Planned) -> None:
    peaks = {at_once: planned(1, at_once).peak for at_once in (1, 2, 4, 8)}
    assert [peak.packed for peak in peaks.values()] == [1, 2, 4, 8]
    four = peaks[4].whole.likely
    for room_mib, packed in ((2.0 * peaks[8].whole.likely, 8), (four * 1.01, 4), (peaks[2].whole.likely * 1.01, 2)):
        found = planned(1, 8, room_mib=room_mib)
        assert found.peak.packed == packed and found.peak.whole.high <= room_mib and not found.warnings


def test_on_a_cluster_that_is_not_known_the_study_is_taken_at_its_word(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert planned(0, 8).groups == 8  # no GPU is here
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert planned(1, 8).groups == 8


def test_after_the_first_report_too_trials_that_wait_for_the_lane_do_not_train(
    toy_experiment: Callable[..., Path], tmp_path: Path
) -> None:
    space = {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 1e-2]}}}
    search = {"space": space, "scheduler": {"type": "none"}, "trials": 8, "max_concurrent": 8}
    hours = []
    for lanes in (1, 8):
        experiment = load_experiment(toy_experiment(search=search, runner={"type": "lane", "packed": 1}))
        at = RunDirectory(tmp_path / f"of_{lanes}")
        plan_log = PlanLog(experiment, at, Meter(at.spent, 1, clock=lambda: 0.0))
        plan_log.plan(Decision(experiment, (CPU,), None), lanes)
        plan_log.shared_groups(lanes)
        plan_log.reported("0000", {"step": 2, "tokens": 400, "seconds": 1000.0, "eval_seconds": 0.0})
        hours.append(read_json(at.plan)["after_first_rung"]["hours"]["likely"])
    assert hours[0] == pytest.approx(8 * hours[1], rel=0.05)


def test_memory_is_warned_of_for_the_largest_configuration_and_for_the_smallest(planned: Planned) -> None:
    space = {"train.per_device_train_batch_size": {"choice": [1, 64]}}
    whole = planned(1, 1, space=space).peak.whole
    assert whole.low < whole.likely and not planned(1, 1, space=space).warnings
    (some,) = planned(1, 1, space=space, room_mib=(whole.low + whole.likely) / 2).warnings
    assert some.startswith(f"memory: the largest configuration of the space takes {whole.likely:,.0f} MiB at its peak")
    assert "out_of_memory" in some and "train.gradient_checkpointing: true" in some
    assert "train.per_device_train_batch_size" in some
    (all_,) = planned(1, 1, space=space, room_mib=whole.low / 2).warnings
    assert all_.startswith(f"memory: even the smallest configuration takes {whole.low:,.0f} MiB at its peak")
    assert "train.gradient_checkpointing: true" in all_


def test_what_is_set_already_is_no_remedy(planned: Planned) -> None:
    (line,) = planned(1, 1, room_mib=1.0, train={"gradient_checkpointing": True}).warnings
    assert "gradient_checkpointing" not in line and "lower train.per_device_train_batch_size" in line
    (line,) = planned(1, 1, room_mib=1.0, train={"per_device_train_batch_size": 1}).warnings
    assert "per_device_train_batch_size" not in line and "data.max_length" in line
