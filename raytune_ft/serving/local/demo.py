"""Base and champion, served and asked the same held-out rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.store import Registry
from raytune_ft.serving.local.ask import Answer, Form, ask, split_row
from raytune_ft.serving.local.session import Endpoint, served
from raytune_ft.serving.settings import ServeArgs


@dataclass(frozen=True)
class DemoRow:
    """One held-out row, asked of both."""

    asked: str
    expected: str | None
    base: Answer
    champion: Answer


@dataclass(frozen=True)
class DemoResult:
    """What the endpoint listed and answered."""

    models: list[str]
    rows: list[DemoRow]
    seconds_to_answer: float
    """From nothing to an endpoint that answers."""


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
        registry: Where the champion is.
        adapter: Its name.
        log: Told each line that a reader should see.
        count: Rows to ask.
        base_model: Where the base lies; by default where the champion's manifest says.
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
    endpoint: Endpoint, adapter: str, form: Form, rows: Sequence[Mapping[str, Any]], log: Callable[[str], None]
) -> list[DemoRow]:
    """Asks base and champion the same rows.

    Args:
        endpoint: That serves both.
        adapter: Its name.
        form: In which the champion was trained.
        rows: Held-out ones.
        log: Told each line that a reader should see.
    """
    log("GET /v1/models: " + ", ".join(endpoint.models))
    log("asking held-out rows, first those that the evaluation saw the champion right on and the base wrong")
    base, tuned = endpoint.models[0], f"{endpoint.models[0]}:{adapter}"
    answers = []
    for model in (base, tuned):  # the first request of each loads what later ones find loaded
        ask(endpoint, model, rows[0], form, max_tokens=1)
    for row in rows:
        asked, expected = split_row(row)
        room = _tokens_for(expected)
        before = ask(endpoint, base, row, form, max_tokens=room)
        after = ask(endpoint, tuned, row, form, max_tokens=room)
        answers.append(DemoRow(_shown(asked), expected, before, after))
        _print_row(answers[-1], form, log)
    return answers


def pick_rows(run: RunDirectory, count: int) -> list[Mapping[str, Any]]:
    """Held-out rows, those first where the evaluation saw the winner right and the base wrong."""
    path = run.data / "test.rows.jsonl"
    if not path.is_file():
        raise InputError(str(path), "is missing", "give the experiment a test file and run it again")
    with path.open(encoding="utf-8") as stream:
        rows: list[Mapping[str, Any]] = [json.loads(line) for line in stream if line.strip()]
    examples = read_json(run.evaluation).get("examples", []) if run.evaluation.is_file() else []
    told_apart = {
        each["row"]
        for each in examples
        if each.get("winner") == each.get("expected") and each.get("base") != each.get("winner")
    }
    order = sorted(range(len(rows)), key=lambda index: index not in told_apart)
    return [rows[index] for index in order[:count]]


def _tokens_for(expected: str | None) -> int:
    """Room for the true answer; a token has at least one character."""
    return min(64, max(4, len(expected) // 2)) if expected else 32


def _shown(asked: str | list[dict[str, Any]]) -> str:
    return asked if isinstance(asked, str) else str(asked[-1].get("content", "")) if asked else ""


def _print_row(row: DemoRow, form: Form, log: Callable[[str], None]) -> None:
    log("")
    log(f"held-out row ({'plain completion' if form == 'prompt_completion' else 'chat'}): {row.asked!r}")
    log(f"  true answer: {row.expected!r}")
    for answer in (row.base, row.champion):
        log(f"  {answer.model}: {answer.text!r} in {answer.latency_s:.2f} s")
