"""The gate `parity`: vLLM with the registry's copy must compute what transformers computes with the run's adapter."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_ft.config.number_type import NumberType
from raytune_ft.config.promotion import ParityGate
from raytune_ft.errors import InputError
from raytune_ft.promotion import child
from raytune_ft.promotion.gates import Verdict

GREEDY_TOKENS = 16
_ENGINE, _NAME = "raytune_ft.promotion.engine", "candidate"


@dataclass(frozen=True)
class Answer:
    """What one engine computed for one row.

    Attributes:
        question: Log-probabilities of some tokens of the question, in nats; empty if vLLM tokenised it differently.
        answer: Log-probabilities of the true answer's tokens, in nats.
        tokens: Token ids of the greedy answer.
        margins: For each of these, its lead in nats over the second likeliest token; only from transformers.
        read_otherwise: Whether vLLM tokenised the question differently from the run; only from vLLM.
    """

    question: list[float]
    answer: list[float]
    tokens: list[int]
    margins: list[float] | None = None
    read_otherwise: bool = False


def check_engine_is_there() -> None:
    """Raises InputError if vLLM is not installed."""
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
    adapter: str | None,
    base_model: str,
    base_sha256: str,
    dtype: NumberType,
    lora_rank: int,
    trust_remote_code: bool,
) -> list[Answer]:
    """Asks the rows of a new engine with the endpoint's settings, with the adapter in directory `adapter` if any."""
    spec = {
        "base_model": base_model,
        "base_sha256": base_sha256,
        "dtype": dtype,
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


def judge_parity(trained: Sequence[Answer], served: Sequence[Answer], gate: ParityGate, dtype: NumberType) -> Verdict:
    """Judges the answers of both engines, which were computed in `dtype`.

    It compares the log-probabilities token by token, with separate means for questions and true answers, and those
    tokens of the greedy answers of which transformers is sure.
    """
    pairs = list(zip(trained, served, strict=True))
    answers = [drift for left, right in pairs for drift in _drifts(left.answer, right.answer)]
    questions = [drift for left, right in pairs if right.question for drift in _drifts(left.question, right.question)]
    answer_drift, question_drift = _mean(answers), _mean(questions)
    worst = max(answers + questions)
    compared, differing = 0, 0
    for left, right in pairs:
        counted, differs = _greedy(left, right, gate.clear_margin)
        compared, differing = compared + counted, differing + differs
    otherwise = sum(answer.read_otherwise for answer in served)
    # false for nan too
    passed = answer_drift <= gate.max_mean_drift and question_drift <= gate.max_mean_drift and not differing
    reason = (
        f"over {len(pairs)} rows in {dtype} the log-probabilities of {len(answers)} answer tokens drift by "
        f"{answer_drift:.4f} nats in the mean, of {len(questions)} question tokens by {question_drift:.4f} (limit "
        f"{gate.max_mean_drift:g}), one by {worst:.4f}; {differing} of {compared} clear greedy tokens differ"
    )
    if otherwise:
        reason += f"; {otherwise} rows are read as other tokens than in training, see tokenizer and chat template"
    if not passed:
        reason += "; what would be served is not what was trained"
    numbers = {
        "rows": len(pairs), "dtype": dtype, "answer_tokens": len(answers), "question_tokens": len(questions),
        "answer_drift": answer_drift, "question_drift": question_drift, "max_drift": worst,
        "max_mean_drift": gate.max_mean_drift, "greedy_compared": compared, "greedy_differing": differing,
        "rows_read_otherwise": otherwise,
    }  # fmt: skip
    return Verdict("parity", passed, reason, numbers)


def _drifts(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [abs(left - right) for left, right in zip(one, other, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _greedy(trained: Answer, served: Answer, clear_margin: float) -> tuple[int, int]:
    """Compares the greedy answers up to the first difference; only tokens of which transformers is sure count.

    Returns:
        The number of these tokens, and 1 if the first difference is one of them, else 0.
    """
    assert trained.margins is not None
    compared = 0
    for token, margin, other in zip(trained.tokens, trained.margins, served.tokens, strict=False):
        if margin >= clear_margin:
            compared += 1
        if token != other:
            return compared, int(margin >= clear_margin)
    return compared, 0
