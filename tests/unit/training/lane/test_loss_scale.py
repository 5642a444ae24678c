"""Loss scaling: what float16 overflows or loses is scaled, and the other types know nothing of it."""

from __future__ import annotations

import pytest

from raytune_ft.training.lane.loss_scale import BEGIN, GROW_AFTER, LEAST, LossScale


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_only_float16_is_scaled(dtype: str) -> None:
    scale = LossScale.of(dtype)
    for _ in range(3 * GROW_AFTER):
        scale.fitted()
    assert scale.factor == 1.0 and not scale.overflowed()


def test_the_factor_halves_with_each_overflow_until_that_is_no_reason_any_more() -> None:
    scale = LossScale.of("float16")
    assert scale.factor == BEGIN
    halvings = 0
    while scale.overflowed():
        halvings += 1
    assert scale.factor == LEAST and halvings == 13


def test_the_factor_doubles_after_many_steps_without_an_overflow_in_a_row() -> None:
    scale = LossScale.of("float16")
    for _ in range(GROW_AFTER - 1):
        scale.fitted()
    scale.overflowed()
    for _ in range(GROW_AFTER - 1):
        scale.fitted()
    assert scale.factor == BEGIN / 2
    scale.fitted()
    assert scale.factor == BEGIN


def test_a_checkpoint_keeps_it_and_one_of_before_begins_anew() -> None:
    scale, other = LossScale.of("float16"), LossScale.of("float16")
    scale.overflowed()
    other.load_state(scale.state())
    assert other == scale
    other.load_state(None)
    assert other == scale
    plain = LossScale.of("float32")
    plain.load_state(scale.state())
    assert plain.factor == 1.0
