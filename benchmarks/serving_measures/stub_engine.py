"""An engine that answers at once, so that only what stands before it takes time.

Ray Serve LLM takes the engine's class from the variable RAYLLM_VLLM_ENGINE_CLS (ray 2.60.0), in the replica alone: all
else of an endpoint is as ever.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

VARIABLE = {"RAYLLM_VLLM_ENGINE_CLS": "serving_measures.stub_engine.StubEngine"}
CHUNKS = 100
WORD = " word"
_DONE = "data: [DONE]\n\n"


class StubEngine:
    """What Ray's LLMServer asks of an engine.

    Args:
        llm_config: As every engine gets it.
    """

    def __init__(self, llm_config: Any) -> None:
        self._config = llm_config

    async def start(self) -> None:
        """Nothing has to be loaded."""

    async def shutdown(self) -> None:
        """Nothing has to be given back."""

    async def check_health(self) -> None:
        """It is always well."""

    async def is_sleeping(self) -> bool:
        """Never."""
        return False

    async def resolve_lora(self, lora_model: Any) -> None:
        """It knows every adapter."""

    def routing_stats(self) -> dict[str, Any]:
        """None."""
        return {}

    async def completions(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """A whole answer, or `CHUNKS` chunks as vLLM writes them."""
        if not request.stream:
            from ray.serve.llm.openai_api_models import CompletionResponse

            yield CompletionResponse(**answer(request.model))
            return
        for _ in range(CHUNKS):
            yield _event(_chunk(request.model))
        if request.stream_options and request.stream_options.include_usage:
            yield _event({**_chunk(request.model), "choices": [], "usage": _usage()})
        yield _DONE


def answer(model: str) -> dict[str, Any]:
    """The fields of a completion that is not streamed."""
    choice = {"index": 0, "text": WORD * CHUNKS, "logprobs": None, "finish_reason": "length", "stop_reason": None}
    return {**_chunk(model), "choices": [choice], "usage": _usage()}


def _chunk(model: str) -> dict[str, Any]:
    choice = {"index": 0, "text": WORD, "logprobs": None, "finish_reason": None, "stop_reason": None}
    return {"id": "cmpl-stub", "object": "text_completion", "created": 1, "model": model, "choices": [choice]}


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 8, "completion_tokens": CHUNKS, "total_tokens": 8 + CHUNKS}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"
