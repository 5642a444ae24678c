"""The vLLM side of the gate parity: `python -m raytune_ft.promotion.engine SPEC RESULT`.

It starts vLLM as the endpoint does, loads the registry's copy of the adapter or merged model, and asks the rows in the
form in which clients send them. Read against vllm 0.29.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from raytune_ft.methods.weights.base_weights import base_id
from raytune_ft.promotion.child import child_main
from raytune_ft.serving.app import engine_settings
from raytune_ft.serving.engine.asked_rows import Place, answers, places
from raytune_ft.serving.models.capacity import Capacity, served_rank
from raytune_ft.serving.models.catalog import Catalog
from raytune_ft.serving.settings import ServeArgs

_ENVIRONMENT = {
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in this process and ends with it
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def work(spec: dict[str, Any]) -> Mapping[str, Any]:
    """Asks vLLM the rows with each adapter.

    Args:
        spec: `base_model`, `base_sha256`, `adapters` (name -> directory, or null for the base itself), `lora_rank`,
            `max_model_len`, `trust_remote_code`, `dtype`, `gpus` and `gpu_memory_utilization` (or null), `rows` (see
            `asked.Asked`), `greedy` (most tokens of a greedy answer).

    Returns:
        `answers`: adapter's name -> the fields of one `parity.Answer` for each row.
    """
    engine = _start(spec)
    from vllm.lora.request import LoRARequest

    loras = {
        name: LoRARequest(name, number, path) if path else None
        for number, (name, path) in enumerate(spec["adapters"].items(), 1)
    }
    return {"answers": {name: _answers(engine, lora, spec["rows"], spec["greedy"]) for name, lora in loras.items()}}


def _answers(engine: Any, lora: Any, rows: list[dict[str, Any]], greedy: int) -> list[dict[str, Any]]:
    from vllm import SamplingParams

    given = _ask(engine, lora, rows, SamplingParams(temperature=0.0, max_tokens=greedy, detokenize=False))
    prompts = [list(output.prompt_token_ids) for output in given]
    asked = [places(row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
    logprobs = _logprobs(engine, lora, [each for of_row in asked for each in of_row])
    return answers(rows, asked, prompts, [list(output.outputs[0].token_ids) for output in given], iter(logprobs))


def _logprobs(engine: Any, lora: Any, wanted: list[Place]) -> list[float]:
    """Returns the log-probability of each wanted token given the tokens before it.

    Each takes a request of its own, because vLLM's `prompt_logprobs` fail with an adapter on a CPU. The values are
    those before `allowed_token_ids` rules out all other tokens (logprobs_mode raw_logprobs, the default).
    """
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    forced = [
        SamplingParams(temperature=0.0, max_tokens=1, logprobs=0, allowed_token_ids=[token], detokenize=False)
        for _, token in wanted
    ]
    prompts = [TokensPrompt(prompt_token_ids=before) for before, _ in wanted]
    found = engine.generate(prompts, forced, lora_request=lora, use_tqdm=False)
    return [
        float(output.outputs[0].logprobs[0][token].logprob) for output, (_, token) in zip(found, wanted, strict=True)
    ]


def _start(spec: Mapping[str, Any]) -> Any:
    """Starts the engine with the settings of the endpoint."""
    import torch

    gpus = int(torch.cuda.is_available()) if spec["gpus"] is None else int(spec["gpus"])
    args = ServeArgs(
        base_model=spec["base_model"], max_model_len=spec["max_model_len"], dtype=spec["dtype"],
        trust_remote_code=spec["trust_remote_code"],
    )  # fmt: skip
    catalog = Catalog(
        base=base_id(spec["base_model"]), base_sha256=spec["base_sha256"],
        registry="" if any(spec["adapters"].values()) else None, adapters=(),
        max_lora_rank=served_rank(spec["lora_rank"]), capacity=Capacity(per_batch=1, loaded=1),
    )  # fmt: skip
    settings = engine_settings(args, catalog, gpus)
    os.environ.update(settings["runtime_env"]["env_vars"] | _ENVIRONMENT)
    from vllm import LLM

    options = {**settings["engine_kwargs"], "max_num_seqs": 16}
    if gpus and spec["gpu_memory_utilization"]:
        options["gpu_memory_utilization"] = spec["gpu_memory_utilization"]
    return LLM(model=settings["model_loading_config"]["model_source"], **options)


def _ask(engine: Any, lora: Any, rows: list[dict[str, Any]], params: Any) -> list[Any]:
    """Returns the greedy answer to each row, asked by its text, its messages, or its tokens if it was truncated."""
    from vllm.inputs import TokensPrompt

    options: dict[str, Any] = {"use_tqdm": False, "lora_request": lora}
    chats = [at for at, row in enumerate(rows) if isinstance(row["asked"], list)]
    texts = [at for at in range(len(rows)) if at not in chats]
    found: dict[int, Any] = {}
    if chats:
        found |= zip(chats, engine.chat([rows[at]["asked"] for at in chats], params, **options), strict=True)
    if texts:
        tokens = {at: TokensPrompt(prompt_token_ids=rows[at]["prompt"]) for at in texts}
        prompts = [tokens[at] if rows[at]["asked"] is None else rows[at]["asked"] for at in texts]
        found |= zip(texts, engine.generate(prompts, params, **options), strict=True)
    return [found[at] for at in range(len(rows))]


if __name__ == "__main__":
    child_main(work)
