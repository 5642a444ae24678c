"""Measures how well a model still predicts general text, which fine-tuning on one task can ruin, by its perplexity."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.errors import InputError
from raytune_ft.objectives.scoring.answers import score_answers

SHIPPED = Path(__file__).with_name("general_text.txt")
MAX_TEXTS = 200
MAX_TOKENS = 256  # longer texts are truncated
_BATCH = 4  # rows


@dataclass(frozen=True)
class GeneralText:
    """Texts, and their identity."""

    texts: tuple[str, ...]
    sha256: str


def general_text(path: str | None) -> GeneralText:
    """Reads texts: rows {"text"} of a JSONL file, paragraphs of any other file, or the package's own without a path.

    Raises:
        InputError: The file is missing or holds no text.
    """
    source = Path(path) if path else SHIPPED
    where = "promotion.retention.text"
    try:
        content = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(where, f"{source}: {error}", "give a UTF-8 text or JSONL file") from None
    if source.suffix == ".jsonl":
        found = [_text_of(source, number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    else:
        found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", content)]
    texts = tuple(text for text in found if text.strip())[:MAX_TEXTS]
    if not texts:
        raise InputError(where, f"{source}: holds no text", "give some dozens of ordinary paragraphs")
    return GeneralText(texts, hashlib.sha256("\n\n".join(texts).encode()).hexdigest())


def _text_of(source: Path, number: int, line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(f"{source}:{number}", f"not JSON ({error})", 'write {"text": "..."}') from None
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise InputError(f"{source}:{number}", 'has no "text"', 'write {"text": "..."}')
    return text


def tokenised(text: GeneralText, tokenizer: Any) -> Any:
    """Tokenises the texts to rows in which every token except the first has a loss."""
    from datasets import Dataset

    ids = tokenizer(list(text.texts), truncation=True, max_length=MAX_TOKENS)["input_ids"]
    rows = [{"input_ids": each, "labels": each} for each in ids if len(each) > 1]
    if not rows:
        raise InputError("promotion.retention.text", "no text has two tokens", "give ordinary paragraphs")
    return Dataset.from_list(rows)


def perplexity(model: Any, rows: Any, pad_token_id: int) -> tuple[float, int]:
    """Returns the perplexity over all tokens of `tokenised` rows, which may be infinite, and the number of tokens."""
    scores = score_answers(model, rows, pad_token_id, _BATCH)
    tokens = int(scores.tokens.sum())
    mean = float((scores.loss * scores.tokens).sum()) / tokens
    return (math.exp(mean) if mean < 700 else math.inf), tokens
