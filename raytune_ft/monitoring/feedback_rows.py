"""Turns feedback into training rows: approved and corrected answers of an endpoint, in a format that `data` reads."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raytune_ft.config.data import DataFormat
from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.formats.choose import parse_row
from raytune_ft.data.rows import Row
from raytune_ft.errors import InputError
from raytune_ft.paths import write_text
from raytune_ft.serving.records.records import PromptRecord, UnkeyedPrompt, read_lines, read_prompts

_Whose = tuple[str | None, str]
"""API key name and request id; the same id with two keys means two requests."""


@dataclass(frozen=True)
class _Judged:
    """A row made from one key's feedback."""

    key: str | None
    row: Row
    corrected: bool


@dataclass(frozen=True)
class Collected:
    """The rows made from the feedback, with counts."""

    rows: tuple[Row, ...]
    form: DataFormat
    corrected: int
    """Number of rows whose answer is a correction from the feedback."""
    approved: int
    """Number of rows whose answer is the model's own."""
    by_key: dict[str, int] = field(default_factory=dict)
    """API key name -> number of rows from its feedback; a row from several keys counts for the first."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of rated answers that gave no row."""


def collect(directory: Path, min_score: float, form: DataFormat | None = None) -> Collected:
    """Joins feedback with logged requests; the last feedback on an answer counts, and corrections always count.

    Clients may choose request ids. A key's feedback is therefore joined only with that key's own requests, and does not
    replace another key's. A request that was logged without its key is joined by its id alone, if only one request has
    the id and only one key gave feedback on it.

    Args:
        directory: The endpoint's log directory.
        min_score: Least score of an answer that was not corrected.
        form: Take only rows of this format; by default the one that the requests have.

    Raises:
        InputError: There is no feedback or no logged request, or there are rows of both formats.
    """
    feedback = _last_words(directory)
    asked = _requests(directory)
    speaking = Counter(request for _, request in feedback)
    left_out: Counter[str] = Counter()
    judged: list[_Judged] = []
    for whose, said in feedback.items():
        found = asked.of(*whose)
        corrected = said.get("completion") is not None
        if not found:
            left_out["the request was not logged"] += 1
        elif len(found) > 1 or (isinstance(found[0], UnkeyedPrompt) and speaking[whose[1]] > 1):  # clients choose ids
            left_out["several requests have its id"] += 1
        elif not corrected and said["score"] < min_score:
            left_out["its score is too low"] += 1
        else:
            answer = said["completion"] if corrected else found[0].answer
            try:
                row = to_row(found[0].asked, answer)
            except BadRow as problem:
                left_out[problem.what] += 1
                continue
            judged.append(_Judged(whose[0], row, corrected))
    rows: dict[Row, bool] = {}
    givers: dict[Row, str] = {}
    for each in _uncontradicted(judged, left_out):
        left_out["the same row is there already"] += each.row in rows
        rows[each.row] = rows.get(each.row, False) or each.corrected
        givers.setdefault(each.row, each.key or "none")
    kept, form = _of_one_form(rows, form, left_out)
    corrected_rows = sum(rows[row] for row in kept)
    by_key = Counter(givers[row] for row in kept)
    return Collected(kept, form, corrected_rows, len(kept) - corrected_rows, dict(by_key), dict(+left_out))


def write_rows(rows: tuple[Row, ...], path: Path) -> None:
    """Writes the rows as JSONL to a new file.

    Raises:
        InputError: The file exists.
    """
    if path.exists():
        raise InputError(str(path), "exists already", "name another file with --to, or move it")
    write_text(path, "".join(json.dumps(row.as_json(), ensure_ascii=False) + "\n" for row in rows), mode=0o600)


def to_row(asked: Any, answer: Any) -> Row:
    """Makes a row that `data` reads from a request and its answer.

    Raises:
        BadRow: The request holds more than text, or the answer is empty.
    """
    if not isinstance(answer, str) or not answer.strip():
        raise BadRow("the answer is empty", "")
    if isinstance(asked, str):
        return _parsed({"prompt": asked, "completion": answer}, DataFormat.prompt_completion)
    if not isinstance(asked, list) or not all(isinstance(turn, dict) for turn in asked):
        raise BadRow("the request holds more than one text", "")
    turns = [{"role": turn.get("role"), "content": _text(turn)} for turn in asked]
    return _parsed({"messages": [*turns, {"role": "assistant", "content": answer}]}, DataFormat.messages)


def _parsed(value: dict[str, Any], form: DataFormat) -> Row:
    try:
        return parse_row(value, 0, form)
    except BadRow as problem:
        raise BadRow("data can't read it", "") from problem


def _text(turn: dict[str, Any]) -> str:
    """Returns the text of a message, which OpenAI's clients may send in parts."""
    content = turn.get("content")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str) or turn.keys() & {"tool_calls", "function_call"}:
        raise BadRow("the request holds more than text", "")
    return content


def _last_words(directory: Path) -> dict[_Whose, dict[str, Any]]:
    """Returns the latest feedback of each key on each of its requests."""
    found: dict[_Whose, dict[str, Any]] = {}
    lines = [line for path in sorted(directory.glob("feedback-*.jsonl")) for line in read_lines(path)]
    for line in sorted(lines, key=lambda line: str(line["time"])):
        if isinstance(line.get("request_id"), str) and isinstance(line.get("score"), int | float):
            found[_key(line.get("key")), line["request_id"]] = line
    if not found:
        raise InputError(str(directory), "holds no feedback", "clients send it to POST /v1/feedback")
    return found


def _key(value: Any) -> str | None:
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class _Requests:
    keyed: dict[_Whose, list[PromptRecord]]
    by_id: dict[str, list[PromptRecord]]

    def of(self, key: str | None, request: str) -> list[PromptRecord]:
        """Returns the key's requests with this id; if it has none, all with the id if one was logged without a key."""
        if own := self.keyed.get((key, request)):
            return own
        found = self.by_id.get(request, [])
        return found if any(isinstance(each, UnkeyedPrompt) for each in found) else []


def _requests(directory: Path) -> _Requests:
    found = _Requests({}, {})
    for record in read_prompts(directory):
        found.by_id.setdefault(record.request, []).append(record)
        if not isinstance(record, UnkeyedPrompt):
            found.keyed.setdefault((_key(record.key), record.request), []).append(record)
    if not found.by_id:
        raise InputError(str(directory), "holds no logged requests", "serve with --log-prompts")
    return found


def _uncontradicted(judged: list[_Judged], left_out: Counter[str]) -> list[_Judged]:
    """Leaves out approved answers that the same key also corrected for the same question."""
    corrected = {(each.key, _asked(each.row)) for each in judged if each.corrected}
    kept = [each for each in judged if each.corrected or (each.key, _asked(each.row)) not in corrected]
    left_out["another answer to its request was corrected"] += len(judged) - len(kept)
    return kept


def _asked(row: Row) -> str:
    """Returns the row's question as a text that is different for each."""
    return json.dumps(row.question)


def _of_one_form(
    rows: dict[Row, bool], form: DataFormat | None, left_out: Counter[str]
) -> tuple[tuple[Row, ...], DataFormat]:
    by_form: dict[DataFormat, list[Row]] = {}
    for row in rows:
        by_form.setdefault(row.form, []).append(row)
    if form is None and len(by_form) > 1:
        counts = ", ".join(f"{len(found)} {each.value}" for each, found in by_form.items())
        raise InputError("--format", f"there are rows of both forms ({counts})", "choose one of them")
    chosen = form or next(iter(by_form), DataFormat.messages)
    for other in by_form.keys() - {chosen}:
        left_out["it has the other form"] += len(by_form[other])
    return tuple(by_form.get(chosen, ())), chosen
