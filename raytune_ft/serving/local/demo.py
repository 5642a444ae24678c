"""Serves base and champion and asks both the same held-out rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raytune_ft.config.data import PromptForm
from raytune_ft.data.prepared import open_prepared
from raytune_ft.data.rows import Question, Row
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.store import Registry
from raytune_ft.serving.local.ask import Answer, ask
from raytune_ft.serving.local.session import Endpoint, served
from raytune_ft.serving.settings import ServeArgs


@dataclass(frozen=True)
class DemoRow:
    """One held-out row with both models' answers."""

    asked: str
    expected: str | None
    base: Answer
    champion: Answer


@dataclass(frozen=True)
class DemoResult:
    """The models that the endpoint listed, and its answers."""

    models: list[str]
    rows: list[DemoRow]
    seconds_to_answer: float
    """Seconds from the start until the endpoint could answer."""


def demo(
    run: RunDirectory,
    registry: Registry,
    adapter: str,
    log: Callable[[str], None],
    *,
    count: int = 3,
    base_model: str | None = None,
) -> DemoResult:
    """Serves base and champion on a free port, asks both the same held-out rows, and shuts everything down.

    Args:
        run: The run whose test rows are asked.
        registry: The registry that holds the champion.
        adapter: The champion's adapter name.
        log: Receives each line for the user.
        count: Number of rows to ask.
        base_model: The base's directory or hub id; by default the one in the champion's manifest.
    """
    champion = manifests.read(registry.resolve(adapter).path)
    rows = pick_rows(run, count)
    args = ServeArgs(
        base_model=base_model or champion.base_model, registry=registry.location, adapters=(adapter,), port=0,
        merged=(adapter,) if champion.merged else (),
    )  # fmt: skip
    started = time.monotonic()
    with served(args, log=log) as endpoint:
        seconds = time.monotonic() - started
        return DemoResult(endpoint.models, ask_both(endpoint, adapter, champion.form, rows, log), seconds)


def ask_both(
    endpoint: Endpoint, adapter: str, form: PromptForm, rows: Sequence[Row], log: Callable[[str], None]
) -> list[DemoRow]:
    """Asks base and champion the same rows.

    Args:
        endpoint: The endpoint, which serves both.
        adapter: The champion's adapter name.
        form: The prompt form that the champion was trained on.
        rows: Held-out rows.
        log: Receives each line for the user.
    """
    log("GET /v1/models: " + ", ".join(endpoint.models))
    log("asking held-out rows, first those that the evaluation saw the champion right on and the base wrong")
    base, tuned = endpoint.models[0], f"{endpoint.models[0]}:{adapter}"
    answers = []
    for model in (base, tuned):  # a warm-up, so that the latencies below do not include loading
        ask(endpoint, model, rows[0].question, form, max_tokens=1)
    for row in rows:
        asked, expected = row.question, row.answer
        room = _tokens_for(expected)
        before = ask(endpoint, base, asked, form, max_tokens=room)
        after = ask(endpoint, tuned, asked, form, max_tokens=room)
        answers.append(DemoRow(_shown(asked), expected, before, after))
        _print_row(answers[-1], form, log)
    return answers


def pick_rows(run: RunDirectory, count: int) -> list[Row]:
    """Returns held-out rows, first those that the winner got right and the base wrong in the evaluation."""
    data = open_prepared(run.data)
    if not data.test_rows.is_file():
        raise InputError(str(data.test_rows), "is missing", "give the experiment a test file and run it again")
    rows = data.read_test_rows()
    examples = read_json(run.evaluation).get("examples", []) if run.evaluation.is_file() else []
    told_apart = {
        each["row"]
        for each in examples
        if each.get("winner") == each.get("expected") and each.get("base") != each.get("winner")
    }
    order = sorted(range(len(rows)), key=lambda index: index not in told_apart)
    return [rows[index] for index in order[:count]]


def _tokens_for(expected: str | None) -> int:
    """Returns a `max_tokens` large enough for the true answer."""
    return min(64, max(4, len(expected) // 2)) if expected else 32


def _shown(asked: Question) -> str:
    return asked if isinstance(asked, str) else str(asked[-1].get("content", "")) if asked else ""


def _print_row(row: DemoRow, form: PromptForm, log: Callable[[str], None]) -> None:
    log("")
    log(f"held-out row ({'plain completion' if form == 'prompt_completion' else 'chat'}): {row.asked!r}")
    log(f"  true answer: {row.expected!r}")
    for answer in (row.base, row.champion):
        log(f"  {answer.model}: {answer.text!r} in {answer.latency_s:.2f} s")
