"""Texts as the tokens that have to follow a context, as a model that is served the context goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raytune_ft.data.tokens.tokenizer import added_end, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BORDERS = ("\n", "a", ":", "0")


def continuations(
    tokenizer: PreTrainedTokenizerBase, contexts: Sequence[str], texts: Sequence[str], *, special_tokens: bool
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each context as it is served, and of the text that follows it.

    The text has its tokens of the whole, context and text encoded at once: encoded apart, a SentencePiece tokenizer
    would write a space before it. Where the whole has a token over the border, or reads the context's end otherwise,
    the context keeps the tokens that it is served with, for the model never sees others, and the text those that it
    has behind a character with which it shares no token.

    Args:
        tokenizer: The tokenizer, with or without offsets.
        contexts: What comes before, one for each text.
        texts: What follows.
        special_tokens: Whether the tokenizer adds its own around a context, as it does around a served prompt.
    """
    found = _split(tokenizer, contexts, texts, special_tokens)
    behind = [after for _, after in found]
    for border in (*_BORDERS, ""):  # the last one: what no other is told from is encoded apart
        joined = [at for at, after in enumerate(behind) if after is None]
        if not joined:
            break
        again = _split(tokenizer, [border] * len(joined), [texts[at] for at in joined], special_tokens=False)
        for at, (_, after) in zip(joined, again, strict=True):
            behind[at] = after
    return [(before, after or []) for (before, _), after in zip(found, behind, strict=True)]


def _split(
    tokenizer: PreTrainedTokenizerBase, contexts: Sequence[str], texts: Sequence[str], special_tokens: bool
) -> list[tuple[list[int], list[int] | None]]:
    """Each context's tokens and, where those of the whole begin with them, the others."""
    different = list(dict.fromkeys(contexts))
    wholes = [context + text for context, text in zip(contexts, texts, strict=True)]
    encoded = encode(tokenizer, [*different, *wholes], special_tokens=special_tokens)
    served = dict(zip(different, encoded, strict=False))
    added = added_end(tokenizer) if special_tokens else 0
    found: list[tuple[list[int], list[int] | None]] = []
    for context, text, whole in zip(contexts, texts, encoded[len(different) :], strict=True):
        size, end = len(served[context]) - added, len(whole) - added
        clean = whole[:size] == served[context][:size] and (end > size or not text)
        found.append((served[context], whole[size:end] if clean else None))
    return found
