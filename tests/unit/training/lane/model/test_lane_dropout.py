"""Dropout before the adapters is PEFT's: what is left is scaled up, also where the base's type is coarse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raytune_ft.config.methods.lora import Lora
from raytune_ft.training.lane.model.adapter import Adapter, Projection
from raytune_ft.training.lane.model.lora import LoraLinear
from raytune_ft.training.lane.model.pack import Current, Pack
from raytune_ft.training.lane.packing.layout import lay_out

RATE, INPUTS, OUTPUTS, TOKENS = 0.1, 64, 32, 24


def adapter_of(dtype: torch.dtype, seed: int = 0) -> Adapter:
    method = Lora(type="lora", r=4, alpha=6, dropout=RATE)
    adapter = Adapter([Projection("p", INPUTS, OUTPUTS)], method, seed, dtype, "cpu")
    adapter.weights.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(seed))
    adapter.refresh()
    return adapter


@pytest.mark.parametrize("grouped", [False, True], ids=["loop", "grouped"])
def test_outputs_and_gradients_are_those_of_the_formula(grouped: bool) -> None:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(2 * TOKENS, INPUTS, generator=draw, requires_grad=True)
    linear = torch.nn.Linear(INPUTS, OUTPUTS).requires_grad_(False)
    adapters = [adapter_of(torch.float32, seed) for seed in (0, 1)]
    row = (np.arange(TOKENS), np.arange(TOKENS))
    pack = Pack(lay_out([[row], [row]]), adapters, grouped=grouped, draws=[5, 6])
    keep = pack.dropout("p", x)
    assert keep is not None and set(keep.unique().tolist()) == {0.0, 1.0}
    assert 0.8 < float(keep.mean()) < 0.97

    up = torch.randn(2 * TOKENS, OUTPUTS, generator=draw)
    y = LoraLinear(linear, "p", Current(pack))(x)
    y.backward(up)
    assert x.grad is not None
    got = [
        y.detach(),
        x.grad.clone(),
        *(each for a in adapters for each in (a.layers["p"].grad_a, a.layers["p"].grad_b)),
    ]

    x.grad = None
    matrices = [tuple(m.clone().requires_grad_() for m in (a.layers["p"].a, a.layers["p"].b)) for a in adapters]
    dropped = (x * keep / (1.0 - RATE)).split(TOKENS)
    branches = [part @ a.T @ b.T * (6 / 4) for part, (a, b) in zip(dropped, matrices, strict=True)]
    wanted = linear(x) + torch.cat(branches)
    wanted.backward(up)
    expected = [wanted.detach(), x.grad, *(m.grad for pair in matrices for m in pair)]
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_what_is_left_is_scaled_by_the_rate_and_not_by_its_rounding() -> None:
    adapter = adapter_of(torch.bfloat16)
    pack = Pack(lay_out([[(np.arange(TOKENS), np.arange(TOKENS))]]), [adapter], draws=[5])
    ((_, _, weights),) = pack.parts("p")
    assert weights.scale == pytest.approx(6 / 4 / (1.0 - RATE), rel=1e-12)
    assert weights.grad_a.data_ptr() == adapter.layers["p"].grad_a.data_ptr()
    evaluated = Pack(pack.layout, [adapter])
    assert evaluated.dropout("p", torch.ones(TOKENS, INPUTS)) is None
    assert evaluated.parts("p")[0][2].scale == 6 / 4


def test_a_scale_at_the_end_of_float32_stays_there() -> None:
    method = Lora(type="lora", r=1, alpha=10**38, dropout=0.99)
    adapter = Adapter([Projection("p", INPUTS, OUTPUTS)], method, 0, torch.float32, "cpu")
    assert torch.tensor(adapter.layers["p"].dropping(method).scale, dtype=torch.float32).isfinite()
