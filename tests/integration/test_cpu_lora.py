"""Adapters in one batch, and tokens of the base between them, through vLLM's own wrapper for the CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRODUCT = """
import itertools, torch
from vllm.lora.layers.utils import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
{correct}
torch.manual_seed(0)
inputs, rank, sizes = 8, 3, (5, 4)
x = torch.randn(4, inputs)
a = tuple(torch.randn(2, 1, rank, inputs) for _ in sizes)
b = tuple(torch.randn(2, 1, size, rank) for size in sizes)
before = torch.randn(4, sum(sizes))
adapters = {{0: -1, 11: 0, 22: 1}}  # vLLM's id, 0 for none -> slot
for named in itertools.product({rows}, repeat=4):
    for prefill in (True, False):
        wrapper = PunicaWrapperCPU(16, 4, torch.device("cpu"))
        wrapper.update_metadata(LoRAMapping(named, named, is_prefill=prefill), [11, 22], 2, 100)
        y = before.clone()
        wrapper.add_lora_linear(y, x, a, b, 2.0, sizes)
        expected = before.clone()
        for row, name in enumerate(named):
            if (slot := adapters[name]) >= 0:
                parts = [2.0 * x[row] @ one[slot, 0].T @ other[slot, 0].T for one, other in zip(a, b)]
                expected[row] += torch.cat(parts)
        print("product", named, prefill, torch.allclose(y, expected, atol=1e-5))
"""
HEAD = """
import torch
from vllm.lora.punica_wrapper import punica_cpu as ops
{correct}
x, a, slots, between = torch.randn(4, 8), torch.randn(2, 3, 8), torch.tensor([-1, 0, 1, -1]), torch.full((4, 3), 9.0)
ops.bgmv_shrink(x, a, between, slots, 2.0)
expected = torch.stack([x[row] @ a[slot].T * 2 for row, slot in enumerate(slots.tolist())]) * (slots >= 0)[:, None]
print("product", torch.allclose(between, expected, atol=1e-5))
"""
CORRECTED = "from raytune_ft.serving.engine import cpu_lora; cpu_lora.correct()"


def run(code: str, correct: str, rows: str = "(0, 11, 22)") -> list[bool]:
    """In a process of its own: the correction stays."""
    command = [sys.executable, "-c", code.format(correct=correct, rows=rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return [line.endswith("True") for line in done.stdout.splitlines() if line.startswith("product")]


@pytest.mark.parametrize(("code", "products"), [(PRODUCT, 2 * 3**4), (HEAD, 1)], ids=["layer", "head"])
def test_each_token_gets_its_own_adapter_and_one_without_an_adapter_none(code: str, products: int) -> None:
    assert run(code, CORRECTED) == [True] * products


def test_vllm_itself_gives_tokens_of_adapters_the_same() -> None:
    assert run(PRODUCT, "", rows="(11, 22)") == [True] * 2 * 2**4


@pytest.mark.parametrize("code", [PRODUCT, HEAD], ids=["layer", "head"])
def test_vllm_itself_still_needs_the_correction(code: str) -> None:
    """When this fails, vLLM has been mended: serving/engine/cpu_lora.py is then about speed alone."""
    assert not all(run(code, ""))
