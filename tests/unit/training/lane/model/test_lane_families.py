"""Each family that lanes run gives, for rows laid end to end, what transformers gives for each row alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import LaneStep
from raytune_ft.objectives.cross_entropy import token_losses
from raytune_ft.training.lane.model.base import load_lane_base
from raytune_ft.training.lane.model.families import MODEL_TYPES, refusal
from raytune_ft.training.lane.model.pack import Pack
from raytune_ft.training.lane.packing.layout import lay_out

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LENGTHS = (23, 9, 40)  # in two of attention's groups


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_logits_and_the_adapters_gradient_are_those_of_each_row_alone(model_type: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **SIZES)
    assert refusal(config.to_dict(), max_length=max(LENGTHS)) is None
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    alone = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32)
    draw = np.random.default_rng(0)
    rows = [
        (ids, np.where(np.arange(len(ids)) < 3, -100, ids).astype(np.int32))
        for ids in (draw.integers(3, SIZES["vocab_size"], length).astype(np.int32) for length in LENGTHS)
    ]
    logits, loss = [], torch.zeros(())
    for ids, labels in rows:
        row = alone(torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
        targets = torch.from_numpy(labels.astype(np.int64))[1:]
        loss = loss + torch.nn.functional.cross_entropy(row[:-1], targets, ignore_index=-100, reduction="sum")
        logits.append(row.detach())
    loss.backward()

    experiment = Experiment.model_validate(
        {
            "name": "e",
            "base_model": str(tmp_path),
            "data": {"train": "t.jsonl"},
            "train": {"dtype": "float32"},
            "method": {"r": 4, "alpha": 8},
        }
    )
    base = load_lane_base(experiment, LaneStep(), share=True)
    layout = lay_out([rows], round_to=32)
    adapter = base.adapter(experiment)
    hidden = base.hidden_states(Pack(layout, [adapter]))
    together = (hidden @ base.head().T).detach()[: layout.tokens].split(LENGTHS)
    for expected, got in zip(logits, together, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    losses, _ = token_losses(hidden, base.head(), layout.targets)
    torch.testing.assert_close(losses.detach().sum(), loss.detach(), rtol=1e-5, atol=0)
    losses.sum().backward()
    parameters = dict(alone.named_parameters())
    assert len(adapter.layers) >= 8
    for name, lora in adapter.layers.items():  # B is zero, so by the chain rule its gradient is scale * dW A^T
        expected = lora.scale * parameters[f"{name}.weight"].grad @ lora.a.T
        largest = float(expected.abs().max())
        torch.testing.assert_close(lora.grad_b, expected, rtol=1e-4, atol=1e-4 * largest)
