"""Work that goes on when the request that caused it is over."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


def start(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Starts a task that belongs to no request.

    Serve knows by a context variable which request asked something of another deployment, and cancels that when the
    request's client goes away; a task would inherit the variable.
    """
    return asyncio.create_task(work, context=contextvars.Context())
