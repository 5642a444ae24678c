"""Tokens of the base in one batch with an adapter's, through vLLM's own ops for the CPU."""

from __future__ import annotations

import subprocess
import sys

PRODUCT = """
import torch
from vllm.lora.punica_wrapper import punica_cpu as ops
{correct}
torch.manual_seed(0)
x, a, b = torch.randn(4, 8), torch.randn(2, 3, 8), torch.randn(2, 5, 3)
indices = torch.tensor([-1, 0, 1, -1])
starts, lengths = torch.arange(4), torch.ones(4, dtype=torch.long)
of = [x[row] @ a[slot].T @ b[slot].T * 2 for row, slot in enumerate(indices.tolist())]
expected = torch.stack(of) * (indices >= 0).unsqueeze(1)
for step in ("prefill", "decode"):
    between, out = torch.full((4, 3), 9.0), torch.zeros(4, 5)
    if step == "prefill":
        ops.sgmv_shrink(x, a, between, starts, lengths, indices, 4, 1, 4, 2.0)
        ops.sgmv_expand(between, b, out, starts, lengths, indices, 4, 1, 4, True)
    else:
        ops.bgmv_shrink(x, a, between, indices, 2.0)
        ops.bgmv_expand(between, b, out, indices, True)
    print(step, torch.allclose(out, expected, atol=1e-5))
"""


def run(correct: str) -> list[str]:
    """In a process of its own: the correction stays."""
    code = PRODUCT.format(correct=correct)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return [line for line in done.stdout.splitlines() if line.startswith(("prefill", "decode"))]


def test_a_token_without_an_adapter_is_left_alone() -> None:
    assert run("from raytune_ft.serving import cpu_lora; cpu_lora.correct()") == ["prefill True", "decode True"]


def test_vllm_itself_still_needs_the_correction() -> None:
    """When this fails, vLLM has been mended: remove serving/cpu_lora.py."""
    assert run("") == ["prefill False", "decode False"]
