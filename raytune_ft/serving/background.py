"""Background tasks that outlive the request that started them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def start(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Starts a task that belongs to no request, so that Serve does not cancel it.

    Serve keeps the current request in a context variable and cancels that request's calls to other deployments when
    its client disconnects. An ordinary task would inherit the variable.
    """
    return asyncio.create_task(work, context=contextvars.Context())
