"""A trial ends for its own reason: no number, an explosion, no memory (faults 10 and 11)."""

from __future__ import annotations

import math

import pytest

from raytune_ft.training.guards import DivergenceGuard, out_of_memory_reason


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_trial_at_once(loss: float) -> None:
    guard = DivergenceGuard(2.0)
    assert guard.train_loss(1, 3.0) is None
    assert guard.train_loss(7, loss) == f"training loss is {loss} at step 7; lower train.learning_rate"
    assert guard.eval_loss(7, loss) == f"eval_loss is {loss} at step 7; lower train.learning_rate"


def test_the_first_training_loss_is_the_measure() -> None:
    guard = DivergenceGuard(2.0)
    assert guard.eval_loss(0, 100.0) is None
    assert guard.train_loss(1, 3.0) is None and guard.train_loss(2, 50.0) is None
    assert guard.first_loss == 3.0
    assert guard.eval_loss(5, 6.0) is None
    assert guard.eval_loss(10, 6.01) == (
        "eval_loss 6.01 at step 10 is over 2 times the first step's 3; lower train.learning_rate"
    )


def test_a_first_loss_that_is_no_number_is_not_a_measure() -> None:
    guard = DivergenceGuard(2.0)
    assert guard.train_loss(1, math.nan) is not None
    assert guard.first_loss is None


def test_a_restarted_trial_keeps_its_measure() -> None:
    guard = DivergenceGuard(2.0, first_loss=3.0)
    assert guard.train_loss(11, 1.0) is None
    assert guard.first_loss == 3.0 and guard.eval_loss(12, 6.5) is not None


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
