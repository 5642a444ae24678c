"""Tells from an error that memory ran out, and says what to lower."""

from __future__ import annotations

_OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


def out_of_memory_reason(error: BaseException) -> str | None:
    """Returns the reason with advice on what to lower if `error` means that memory ran out; None for other errors."""
    text = str(error)
    names = {cls.__name__ for cls in type(error).__mro__}
    allocators = isinstance(error, MemoryError) or "OutOfMemoryError" in names
    if allocators or any(message in text for message in _OUT_OF_MEMORY):
        first = text.splitlines()[0] if text else type(error).__name__
        return (
            f"{first[:160]}; lower train.per_device_train_batch_size or data.max_length, or set gradient_checkpointing"
        )
    return None
