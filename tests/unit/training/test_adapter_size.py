"""The size that reports tell is the file's."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.methods.weights.adapter_size import safetensors_mib
from raytune_ft.methods.weights.tuned import tuned_mib
from raytune_ft.training.metrics_log import read_metrics


@pytest.mark.parametrize(("rank", "layers"), [(1, 1), (8, 3), (64, 12)])
def test_the_size_of_a_file_is_known_before_it_is_written(tmp_path: Path, rank: int, layers: int) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {
        f"base_model.model.model.layers.{layer}.self_attn.{name}_proj.lora_{side}.weight": torch.zeros(shape)
        for layer in range(layers)
        for name in "qkvo"
        for side, shape in (("A", (rank, 64)), ("B", (96, rank)))
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    known = safetensors_mib({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert known == tuned_mib(tmp_path)
    assert known > 0
    assert tuned_mib(tmp_path / "nothing") is None


def test_a_lanes_report_tells_the_size_of_the_adapter_that_it_saved(lane_world) -> None:
    world = lane_world(train={"max_steps": 2})
    world.lane(world.start("0000"), world.start("0001", method__r=16))
    sizes = {}
    for name in ("0000", "0001"):
        (report,) = read_metrics(world.run.trial(name).metrics)
        saved = world.run.trial(name).checkpoints / report["checkpoint"]
        assert report["adapter_mib"] == tuned_mib(saved)
        sizes[name] = report["adapter_mib"]
    assert sizes["0001"] > 1.5 * sizes["0000"]
