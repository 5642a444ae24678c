"""Starts something slow in the background, while its caller does something else."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundStart(Generic[T]):
    """Enters another context manager in a thread, and leaves it, if it was entered, at the end of its own block.

    Args:
        manager: The context manager that is slow to enter.
    """

    def __init__(self, manager: AbstractContextManager[T]) -> None:
        self._manager = manager
        self._entered = ExitStack()
        self._starting: Future[T] | None = None
        # The thread lives to the end: the kernel ends Ray's processes with the thread that started them.
        self._thread = ThreadPoolExecutor(1, "early")

    def begin(self) -> None:
        """Starts to enter the manager, and returns at once."""
        if self._starting is None:
            self._starting = self._thread.submit(self._entered.enter_context, self._manager)

    def get(self) -> T:
        """Waits for what the manager yields, and returns it; raises the error that kept it from starting."""
        self.begin()
        assert self._starting is not None
        return self._starting.result()

    def __enter__(self) -> BackgroundStart[T]:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._starting is not None:
                wait([self._starting])
        finally:
            self._entered.close()
            self._thread.shutdown()
