"""Converts spans of characters to spans of tokens."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.tokens.tokenizer import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""A half-open range, [start, end)."""


def token_spans(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int], spans: Sequence[Span]) -> list[Span]:
    """Returns the tokens that lie completely within each span of characters; a token across a border is in none.

    Spans without a complete token are left out.

    Args:
        tokenizer: A tokenizer of the library `tokenizers`, which supports offsets. With a pure Python tokenizer, a
            border is found by encoding the text before it, whose tokens must be a prefix of the whole's.
        text: The text.
        ids: Its token ids, without special tokens that the tokenizer adds.
        spans: Spans in characters, in order and without overlap.

    Raises:
        BadRow: The tokenizer has no offsets, and a border lies within a token.
    """
    if not spans:
        return []
    if not tokenizer.is_fast:
        return _by_beginnings(tokenizer, text, ids, spans)
    offsets: list[Span] = _without_post_processor(tokenizer).encode(text, add_special_tokens=False).offsets
    found = []
    for start, end in spans:
        inside = [at for at, (first, last) in enumerate(offsets) if start <= first and last <= end and first < last]
        if inside:
            found.append((inside[0], inside[-1] + 1))
    return found


@lru_cache(maxsize=1)
def _without_post_processor(tokenizer: Any) -> Any:
    """Copies the backend tokenizer without its post-processor, since a byte-level one may trim spaces from offsets."""
    backend = tokenizer.backend_tokenizer
    copied = copy.deepcopy(backend)
    copied.post_processor = None
    copied.no_truncation()
    copied.no_padding()
    copied.encode_special_tokens = backend.encode_special_tokens
    return copied


def _by_beginnings(tokenizer: PreTrainedTokenizerBase, text: str, ids: list[int], spans: Sequence[Span]) -> list[Span]:
    borders = [border for span in spans for border in span]
    beginnings = encode(tokenizer, [text[:border] for border in borders], special_tokens=False)
    for beginning in beginnings:
        if ids[: len(beginning)] != beginning:
            what = "the tokenizer tells no offsets, and a border of an earlier answer lies within a token"
            raise BadRow(what, "give a row to each answer, or use a tokenizer with tokenizer.json")
    sizes = [len(beginning) for beginning in beginnings]
    return [(start, end) for start, end in zip(sizes[::2], sizes[1::2], strict=True) if start < end]
