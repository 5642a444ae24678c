"""The gate `parity`: what vLLM makes of the registry's copy against what transformers makes of the run's adapter."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_ft.config.promotion import ParityGate
from raytune_ft.errors import InputError
from raytune_ft.promotion import child
from raytune_ft.promotion.gates import Verdict

GREEDY_TOKENS = 16
_ENGINE, _NAME = "raytune_ft.promotion.engine", "candidate"


@dataclass(frozen=True)
class Answer:
    """What one engine makes of one row.

    Attributes:
        logprobs: Of each token of the true answer, in nats.
        tokens: The answer that it gives itself, greedily.
        margins: By how many nats each of these leads the next likeliest; of transformers only.
        read_otherwise: Whether the question was read as other tokens than the run's; of vLLM only.
    """

    logprobs: list[float]
    tokens: list[int]
    margins: list[float] | None = None
    read_otherwise: bool = False


def check_engine_is_there() -> None:
    """Raises InputError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise InputError(
            "promote", "vLLM is not installed, which the gate parity asks", "install raytune-ft[cpu] or [gpu], or "
            "--skip parity"
        )  # fmt: skip


def ask_vllm(
    gate: ParityGate,
    rows: Sequence[Mapping[str, Any]],
    say: Callable[[str], None],
    *,
    adapter: str,
    base_model: str,
    base_sha256: str,
    lora_rank: int,
    trust_remote_code: bool,
) -> list[Answer]:
    """Asks an engine of its own, started as the endpoint's, with the adapter in the directory `adapter`."""
    spec = {
        "base_model": base_model,
        "base_sha256": base_sha256,
        "adapters": {_NAME: adapter},
        "lora_rank": lora_rank,
        "trust_remote_code": trust_remote_code,
        "max_model_len": max(int(row["length"]) for row in rows) + GREEDY_TOKENS + 1,
        "gpus": gate.gpus,
        "gpu_memory_utilization": gate.gpu_memory_utilization,
        "rows": list(rows),
        "greedy": GREEDY_TOKENS,
    }
    found = child.run_child(_ENGINE, spec, gate.timeout_s, say, "vLLM", "raise promotion.parity.timeout_s")
    return [Answer(**each) for each in found["answers"][_NAME]]


def judge_parity(trained: Sequence[Answer], served: Sequence[Answer], gate: ParityGate) -> Verdict:
    """Compares the true answers' log-probabilities, token by token, and the greedy answers as far as they are clear."""
    drift = [
        abs(one - other)
        for left, right in zip(trained, served, strict=True)
        for one, other in zip(left.logprobs, right.logprobs, strict=True)
    ]
    mean, worst = sum(drift) / len(drift), max(drift)
    compared, differing = 0, 0
    for left, right in zip(trained, served, strict=True):
        counted, differs = _greedy(left, right, gate.clear_margin)
        compared, differing = compared + counted, differing + differs
    otherwise = sum(answer.read_otherwise for answer in served)
    passed = mean <= gate.max_mean_drift and not differing  # false for nan too
    reason = (
        f"{len(drift)} answer tokens of {len(trained)} rows drift by {mean:.4f} nats in the mean, {worst:.4f} at most "
        f"(limit of the mean {gate.max_mean_drift:g}); {differing} of {compared} clear greedy tokens differ"
    )
    if otherwise:
        reason += f"; {otherwise} rows are read as other tokens than in training, see tokenizer and chat template"
    if not passed:
        reason += "; what would be served is not what was trained"
    numbers = {
        "rows": len(trained), "tokens": len(drift), "mean_drift": mean, "max_drift": worst,
        "max_mean_drift": gate.max_mean_drift, "greedy_compared": compared, "greedy_differing": differing,
        "rows_read_otherwise": otherwise,
    }  # fmt: skip
    return Verdict("parity", passed, reason, numbers)


def _greedy(trained: Answer, served: Answer, clear_margin: float) -> tuple[int, int]:
    """Tokens that were compared, and whether the last of them differs.

    Up to the first place where transformers itself is not clear both have answered the same, or the row is over.
    """
    assert trained.margins is not None
    compared = 0
    for token, margin, other in zip(trained.tokens, trained.margins, served.tokens, strict=False):
        if margin >= clear_margin:
            compared += 1
        if token != other:
            return compared, int(margin >= clear_margin)
    return compared, 0
