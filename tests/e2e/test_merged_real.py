"""A DoRA winner, which vLLM can't load, merged by PEFT and served by an engine of its own beside the base's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.errors import IntegrityError
from raytune_ft.paths import RunDirectory
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry
from raytune_ft.serving.local.ask import client
from raytune_ft.serving.local.session import Endpoint, served
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs

pytestmark = pytest.mark.system

MODEL = "smollm2-135m-instruct:movie-sentiment"
PROMPTS = (
    "Review: a joyless, endless film.\nSentiment:", "The capital of France is", "One, two, three,", "2 + 2 =",
    "To be, or not to", "Once upon a", "The opposite of hot is", "The sun rises in the",
)  # fmt: skip


def test_a_dora_winner_is_merged_proved_and_served_by_its_own_engine(
    base_model: Path, untrained_run: Callable[..., RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    settings = ["method.use_dora=true", "promotion.merge=needed", "promotion.parity.max_mean_drift=0.4"]
    run = untrained_run("dora", *settings, std=0.12, use_dora=True)  # far from the base, and from sure of an answer
    registry = Registry(Path(load_experiment(run.experiment).registry.path))
    done = promote(run, registry, skip=["retention"], say=print)
    found = verify(done.path)
    print(found.gates["parity"])
    assert found.merged and found.gates["parity"]["passed"]

    args = ServeArgs(
        base_model=str(base_model), registry=str(registry.root), merged=("movie-sentiment",), port=0, max_model_len=128
    )
    with served(args, log=print) as endpoint:
        assert {MODEL, f"{MODEL}@1"} <= set(endpoint.models)
        likeliest = _by_transformers(done.path)
        merged, base = (_drift(endpoint, model, likeliest) for model in (MODEL, endpoint.models[0]))
        print(f"from the merged model in transformers: {merged:.3f} nats; the base: {base:.3f}")
        assert merged < 0.2 and base > 3 * merged
        options: dict[str, Any] = {"prompt": PROMPTS[0], "max_tokens": 3, "temperature": 0.0}
        whole = client(endpoint).completions.create(model=MODEL, **options)
        streamed = list(client(endpoint).completions.create(model=MODEL, stream=True, **options))
        assert {whole.model, *(chunk.model for chunk in streamed)} == {f"{MODEL}@1"}
        assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text
        assert httpx.get(endpoint.base_url.removesuffix("/v1") + "/health", timeout=50).status_code == 200

    weights = done.path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="sha256"), served(args, log=print):
        pass


def _drift(endpoint: Endpoint, model: str, likeliest: list[tuple[str, float]]) -> float:
    """By how many nats the model differs, in the mean, on the tokens that transformers finds likeliest."""
    drifts = []
    for prompt, (token, logprob) in zip(PROMPTS, likeliest, strict=True):
        options: dict[str, Any] = {"prompt": prompt, "max_tokens": 1, "temperature": 0.0, "logprobs": 20}
        answer: Any = client(endpoint).completions.create(model=model, **options)
        found = answer.choices[0].logprobs.top_logprobs[0]
        drifts.append(abs(found.get(token, min(found.values())) - logprob))
    return sum(drifts) / len(drifts)


def _by_transformers(directory: Path) -> list[tuple[str, float]]:
    """For each prompt the likeliest next token, and its log-probability."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype="auto")  # as it was written
    found = []
    for prompt in PROMPTS:
        with torch.inference_mode():
            logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].float()
        best = logits.log_softmax(-1).max(-1)
        found.append((str(tokenizer.decode(best.indices)), float(best.values)))
    return found
