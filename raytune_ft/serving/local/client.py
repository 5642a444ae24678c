"""The `openai` client of an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai import OpenAI

_TIMEOUT_S = 120.0


def openai_client(base_url: str, api_key: str | None, retries: int = 0) -> OpenAI:
    """Returns a client; a request that fails is repeated up to `retries` times."""
    from openai import OpenAI

    return OpenAI(base_url=base_url, api_key=api_key or "none", max_retries=retries, timeout=_TIMEOUT_S)
