"""What this machine's processor is measured to do."""

from __future__ import annotations

import torch

from raytune_ft.config.experiment import Experiment
from raytune_ft.hardware import here
from raytune_ft.hardware.device import Device
from raytune_ft.hardware.products import measured_products


def test_products_are_measured_in_each_type_that_is_asked_for_and_threads_stay_as_they_were() -> None:
    before = torch.get_num_threads()
    found = measured_products(["float32", "bfloat16"], threads=1)
    assert list(found) == ["float32", "bfloat16"] and min(found.values()) > 0.01
    assert torch.get_num_threads() == before


def test_the_cpu_is_named_with_the_flags_that_tell_what_it_multiplies() -> None:
    assert "(" in here.cpu_name() and here.cpu_here(1).name == here.cpu_name()


def experiment(dtype: str) -> Experiment:
    values = {"name": "e", "base_model": "b", "data": {"train": "t"}, "train": {"dtype": dtype}}
    return Experiment.model_validate(values)


def test_a_run_is_evaluated_in_this_machines_type_and_that_is_said_where_it_is_another(monkeypatch) -> None:
    slow = Device("EPYC (avx2)", gflops={"bfloat16": 13, "float16": 12, "float32": 73})
    monkeypatch.setattr(here, "device_here", lambda: slow)
    lines: list[str] = []
    assert here.in_type_of_this_machine(experiment("bfloat16"), lines.append).train.number_type == "float32"
    assert lines == ["computing in float32, as EPYC (avx2) is not fast in bfloat16, the run's type"]
    assert here.in_type_of_this_machine(experiment("float32"), lines.append).train.number_type == "float32"
    assert len(lines) == 1
