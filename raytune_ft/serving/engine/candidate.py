"""What a running endpoint's engine makes of rows with an adapter that is in no registry yet: the gate parity asks it,
so that no engine has to start for it alone. Read against ray 2.60.0 and vllm 0.29."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from raytune_ft.serving.engine.asked_rows import answers, places


async def answer_rows(engine: Any, model: str, rows: Sequence[dict[str, Any]], greedy: int) -> list[dict[str, Any]]:
    """Asks in the form in which clients ask.

    Args:
        engine: Ray Serve LLM's, with the adapter loaded as `model`.
        model: The adapter's name in the engine.
        rows: See `promotion.asked.Asked`.
        greedy: Tokens of an answer.

    Raises:
        RuntimeError: The engine refused.
    """
    given = await asyncio.gather(*(_ask(engine, model, row, greedy) for row in rows))
    prompts, tokens = [prompt for prompt, _ in given], [answer for _, answer in given]
    asked = [places(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
    flat = [place for of_row in asked for place in of_row]
    logprobs = await asyncio.gather(*(_logprob(engine, model, before, token) for before, token in flat))
    return answers(rows, asked, prompts, tokens, iter(logprobs))


async def _ask(engine: Any, model: str, row: dict[str, Any], greedy: int) -> tuple[list[int], list[int]]:
    """How the question was read, and the likeliest answer, both as token ids."""
    from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest

    options: dict[str, Any] = {"model": model, "temperature": 0.0, "max_tokens": greedy, "return_token_ids": True}
    asked = row["prompt"] if row["asked"] is None else row["asked"]
    if isinstance(row["asked"], list):
        answer = await _only(engine.chat(ChatCompletionRequest(messages=asked, **options)))
        return list(answer.prompt_token_ids), list(answer.choices[0].token_ids)
    answer = await _only(engine.completions(CompletionRequest(prompt=asked, **options)))
    return list(answer.choices[0].prompt_token_ids), list(answer.choices[0].token_ids)


async def _logprob(engine: Any, model: str, before: list[int], token: int) -> float:
    """Of the token after those before, a request for each: on a CPU, prompt_logprobs fail with an adapter."""
    from ray.serve.llm.openai_api_models import CompletionRequest

    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 1, "logprobs": 0, "allowed_token_ids": [token]}
    answer = await _only(engine.completions(CompletionRequest(model=model, prompt=before, **options)))
    return float(answer.choices[0].logprobs.token_logprobs[0])


async def _only(stream: Any) -> Any:
    """The whole answer of a request that streams nothing."""
    async for answer in stream:
        if (error := getattr(answer, "error", None)) is not None:
            raise RuntimeError(f"the engine refused a held-out row: {error.message}")
        return answer
    raise RuntimeError("the engine gave no answer")
