"""What QLoRA reckons that its base takes is what bitsandbytes holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.data.safetensors_header import read_header
from raytune_ft.methods import lora, qlora


def held(model: Any) -> tuple[int, int]:
    """Bytes of the tensors in 4 bits with what unpacks them, and of all others."""
    packed = rest = 0
    for weight in model.parameters():
        state = getattr(weight, "quant_state", None)
        if state is None:
            rest += weight.nbytes
            continue
        inner = state.state2
        tables = (state.absmax, state.code, state.offset, inner.absmax, inner.code)
        packed += weight.nbytes + sum(each.nbytes for each in tables)
    return packed, rest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_takes_the_bytes_that_bitsandbytes_holds(
    toy_experiment: Callable[..., Path], tiny_llama: Path, dtype: str
) -> None:
    asked = {"method": {"type": "qlora"}, "train": {"dtype": dtype, "max_steps": 4}}
    packed, rest = held(qlora.load(load_experiment(toy_experiment(**asked))))
    tensors, width = read_header(tiny_llama / "model.safetensors"), {"float32": 4, "bfloat16": 2}[dtype]
    linear = {name: info for name, info in tensors.items() if len(info.shape) == 2 and "embed" not in name}
    linear = {name: info for name, info in linear.items() if "lm_head" not in name}
    others = {name: info for name, info in tensors.items() if name not in linear}
    assert len(linear) == 2 * 7 and packed and rest
    assert qlora.base_bytes(tensors, width) == pytest.approx(packed + rest, rel=0.05)
    assert qlora.base_bytes(linear, width) == pytest.approx(packed, rel=0.05)
    assert qlora.base_bytes(others, width) == rest == lora.base_bytes(others, width)
