"""Lets a running endpoint's engine answer held-out rows with an adapter that is in no registry yet.

The gate parity uses it, so that it need not start an engine of its own. Read against ray 2.60.0 and vllm 0.29.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from raytune_ft.serving.engine.asked_rows import answers, places


async def answer_rows(engine: Any, model: str, rows: Sequence[dict[str, Any]], greedy: int) -> list[dict[str, Any]]:
    """Asks the engine for a greedy answer and for log-probabilities of each row, in the request form that clients use.

    Args:
        engine: Ray Serve LLM's engine, with the adapter loaded as `model`.
        model: The adapter's name in the engine.
        rows: The fields of `promotion.asked.Asked`, one mapping for each row.
        greedy: Most tokens of a greedy answer.

    Returns:
        The fields of one `promotion.parity.Answer` for each row.

    Raises:
        RuntimeError: The engine refused a row.
    """
    given = await asyncio.gather(*(_ask(engine, model, row, greedy) for row in rows))
    prompts, tokens = [prompt for prompt, _ in given], [answer for _, answer in given]
    asked = [places(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
    flat = [place for of_row in asked for place in of_row]
    logprobs = await asyncio.gather(*(_logprob(engine, model, before, token) for before, token in flat))
    return answers(rows, asked, prompts, tokens, iter(logprobs))


async def _ask(engine: Any, model: str, row: dict[str, Any], greedy: int) -> tuple[list[int], list[int]]:
    """Returns the token ids of the prompt as the engine tokenised it, and those of the greedy answer."""
    from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest

    options: dict[str, Any] = {"model": model, "temperature": 0.0, "max_tokens": greedy, "return_token_ids": True}
    asked = row["prompt"] if row["asked"] is None else row["asked"]
    if isinstance(row["asked"], list):
        answer = await _only(engine.chat(ChatCompletionRequest(messages=asked, **options)))
        return list(answer.prompt_token_ids), list(answer.choices[0].token_ids)
    answer = await _only(engine.completions(CompletionRequest(prompt=asked, **options)))
    return list(answer.choices[0].prompt_token_ids), list(answer.choices[0].token_ids)


async def _logprob(engine: Any, model: str, before: list[int], token: int) -> float:
    """Returns the log-probability of `token` after the tokens `before`.

    Each takes a request of its own, because vLLM's `prompt_logprobs` fail with an adapter on a CPU.
    """
    from ray.serve.llm.openai_api_models import CompletionRequest

    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 1, "logprobs": 0, "allowed_token_ids": [token]}
    answer = await _only(engine.completions(CompletionRequest(model=model, prompt=before, **options)))
    return float(answer.choices[0].logprobs.token_logprobs[0])


async def _only(stream: Any) -> Any:
    """Returns the one answer of a request that is not streamed."""
    async for answer in stream:
        if (error := getattr(answer, "error", None)) is not None:
            raise RuntimeError(f"the engine refused a held-out row: {error.message}")
        return answer
    raise RuntimeError("the engine gave no answer")
