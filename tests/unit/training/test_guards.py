"""A trial ends for its own reason: no number, an explosion, no memory (faults 10 and 11)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_ft.hardware.out_of_memory import out_of_memory_reason
from raytune_ft.training.guards import DivergenceGuard


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_trial_at_once(loss: float) -> None:
    guard = DivergenceGuard(2.0, "eval_loss")
    assert guard.train_loss(1, 3.0) is None
    assert guard.train_loss(7, loss) == f"training loss is {loss} at step 7; lower train.learning_rate"
    assert guard.evaluated(7, {"eval_loss": loss}) == f"eval_loss is {loss} at step 7; lower train.learning_rate"


def test_the_bases_own_validation_loss_is_the_measure() -> None:
    guard = DivergenceGuard(2.0, "eval_loss", base_loss=3.0)
    assert guard.train_loss(1, 1.0) is None and guard.train_loss(2, 50.0) is None
    assert guard.evaluated(5, {"eval_loss": 6.0}) is None
    assert guard.evaluated(10, {"eval_loss": 6.01}) == (
        "eval_loss 6.01 at step 10 is over 2 times the base's own 3; lower train.learning_rate"
    )


def test_without_a_measure_only_numbers_are_asked_for() -> None:
    guard = DivergenceGuard(2.0, "eval_loss")
    assert guard.train_loss(1, 3.0) is None and guard.evaluated(5, {"eval_loss": 100.0}) is None


def test_only_the_objectives_own_loss_is_compared_and_every_number_has_to_be_one() -> None:
    guard = DivergenceGuard(2.0, "eval_chosen_loss", base_loss=1.0)
    assert guard.evaluated(5, {"eval_loss": 9.0, "eval_chosen_loss": 2.0}) is None
    assert guard.evaluated(5, {"eval_loss": 0.1, "eval_chosen_loss": 2.1}) == (
        "eval_chosen_loss 2.1 at step 5 is over 2 times the base's own 1; lower train.learning_rate"
    )
    reason = guard.evaluated(5, {"eval_preference_accuracy": math.nan, "eval_chosen_loss": 1.0})
    assert reason == "eval_preference_accuracy is nan at step 5; lower train.learning_rate"


def test_an_objective_without_such_a_loss_diverges_by_what_is_no_number_alone() -> None:
    guard = DivergenceGuard(2.0, None, base_loss=1.0)
    assert guard.evaluated(5, {"score": 1e9}) is None
    assert guard.evaluated(5, {"score": math.inf}) == "score is inf at step 5; lower train.learning_rate"


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_an_easy_first_batch_ends_no_trial_that_is_better_than_the_base(batch: int) -> None:
    """Rows whose losses spread exponentially around the base's 1.0."""
    draw = np.random.default_rng(0)
    fired = 0
    for _ in range(2000):
        guard = DivergenceGuard(2.0, "eval_loss", base_loss=1.0)
        guard.train_loss(1, float(draw.exponential(1.0, batch).mean()))
        fired += guard.evaluated(10, {"eval_loss": 0.9}) is not None
    assert fired == 0


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB\nmore"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 40000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_an_allocators_error_says_what_to_lower(error: Exception) -> None:
    reason = out_of_memory_reason(error)
    assert reason is not None and "\n" not in reason
    assert reason.endswith(
        "; lower train.per_device_train_batch_size or data.max_length, or set gradient_checkpointing"
    )
    assert (str(error).splitlines() or ["MemoryError"])[0][:40] in reason


def test_the_real_cpu_allocators_error_is_known() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert out_of_memory_reason(caught.value) is not None


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("memory"), OSError("no memory card")],
)
def test_another_error_is_not_taken_for_lack_of_memory(error: Exception) -> None:
    assert out_of_memory_reason(error) is None
