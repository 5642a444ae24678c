"""What passes take in memory, against what PyTorch really keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytune_ft.search.planning.memory.activations import (
    Pass,
    Shape,
    lane_evaluation_bytes,
    lane_kept_bytes,
    lane_training_bytes,
)

SHAPE = Shape(hidden=64, layers=2, intermediate=128, heads=2, kv_heads=1, head_size=32, vocabulary=512)
PASS = Pass(tokens=200, width=50, answers=4, rank=8, dtype_bytes=4, checkpointing=False, math=True)


def test_the_shape_of_a_decoder_is_read_from_its_config(tiny_llama: Path) -> None:
    config = json.loads((tiny_llama / "config.json").read_text())
    assert Shape.of(config) == Shape(64, 2, 128, 2, 1, 32, config["vocab_size"])
    assert Shape.of({"text_config": config}) == Shape.of(config)
    assert Shape.of({"n_embd": 64}) is None
    del config["head_dim"], config["num_key_value_heads"]
    other = Shape.of(config)
    assert other is not None and (other.kv_heads, other.head_size) == (2, 32)


def test_the_linear_weights_are_those_of_the_model(tiny_llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    counted = sum(each.numel() for name, each in model.named_parameters() if name.split(".")[-2] in names)
    assert Shape.of(model.config.to_dict()).linear_weights == counted


@pytest.mark.parametrize(("kernel", "rank"), [("math", 8), ("math", 64), ("sdpa", 8)])
def test_a_lane_keeps_what_it_is_thought_to_keep(toy_experiment, tiny_llama: Path, kernel: str, rank: int) -> None:
    import numpy as np
    import torch

    from raytune_ft.config.load import load_experiment
    from raytune_ft.config.training import LaneStep
    from raytune_ft.training.lane.model.base import load_lane_base
    from raytune_ft.training.lane.model.pack import Pack
    from raytune_ft.training.lane.step import Stepper

    train = {"dtype": "float32", "attn_implementation": {"math": "eager"}.get(kernel, kernel)}
    experiment = load_experiment(toy_experiment(method={"type": "lora", "r": rank, "alpha": 16}, train=train))
    settings = LaneStep(round_tokens=1)
    base = load_lane_base(experiment, settings, share=True)
    stepper, adapter = Stepper(base, settings), base.adapter(experiment)
    ids = np.arange(48, dtype=np.int32)
    labels = np.where(np.arange(48) == 47, ids, -100).astype(np.int32)
    layout = stepper._lay_out([[(ids, labels)] * 4])

    kept: dict[int, int] = {}
    known = {each.untyped_storage().data_ptr() for each in (*base.model.parameters(), adapter.weights, adapter.grad)}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses, _ = stepper._forward(Pack(layout, [adapter], False, [0]))
        assert losses.requires_grad
        found = sum(kept.values())  # while the graph holds all of it, so that no address stands for two
    shape = Shape.of(json.loads((tiny_llama / "config.json").read_text()))
    of = Pass(tokens=192, width=48, answers=4, rank=rank, dtype_bytes=4, checkpointing=False, math=kernel == "math")
    assert lane_kept_bytes(shape, of) == pytest.approx(found, rel=0.15)


def test_recomputing_keeps_one_layer_and_its_inputs() -> None:
    again = Pass(**{**vars(PASS), "checkpointing": True})
    layer = lane_kept_bytes(SHAPE, PASS) / SHAPE.layers
    assert lane_kept_bytes(SHAPE, again) == pytest.approx(layer + SHAPE.layers * PASS.tokens * SHAPE.hidden * 4)


def test_logits_count_where_the_loss_is_and_at_most_a_chunk_of_them() -> None:
    deep = Shape(**{**vars(SHAPE), "vocabulary": 100_000})
    few, many, more = (lane_training_bytes(deep, Pass(**{**vars(PASS), "answers": n})) for n in (100, 1024, 5000))
    assert many - few == 8 * 100_000 * (1024 - 100) and more == many


def test_an_evaluation_keeps_nothing_but_looks_at_more_tokens() -> None:
    small, large = (lane_evaluation_bytes(SHAPE, Pass(**{**vars(PASS), "tokens": n}), 0.02) for n in (10, 5000))
    assert small == large > 0
    assert lane_evaluation_bytes(SHAPE, PASS, 1.0) > small


def test_a_lane_is_planned_with_the_kernel_that_it_will_have(toy_experiment) -> None:
    from raytune_ft.config.load import load_experiment
    from raytune_ft.hardware.device import Device
    from raytune_ft.search.planning.plan import plan_sweep

    cpu = Device("a CPU", gflops={"bfloat16": 200.0, "float16": 20.0, "float32": 100.0})
    activations = {}
    for kernel in ("auto", "eager", "sdpa"):
        train = {"dtype": "float32", "attn_implementation": kernel}
        activations[kernel] = plan_sweep(load_experiment(toy_experiment(train=train)), cpu).peak.activations
    assert activations["auto"] == activations["eager"] != activations["sdpa"]
