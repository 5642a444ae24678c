"""Tokenises texts as continuations of a context, as a served model would generate them."""

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
    """Returns the token ids of each context as it is served, and those of the text that follows it.

    Context and text are encoded together and then split, because a SentencePiece tokenizer would put a space before a
    text that is encoded alone. A token may span the border, or the context's end may be tokenised differently in the
    whole. Then the context keeps the tokens with which it is served, since the model never sees others, and the text
    gets the tokens that it has after a character with which it shares no token.

    Args:
        tokenizer: The tokenizer, which need not support offsets.
        contexts: The context before each text.
        texts: The texts that follow.
        special_tokens: Whether the tokenizer adds special tokens to a context, as it does to a served prompt.
    """
    found = _split(tokenizer, contexts, texts, special_tokens)
    behind = [after for _, after in found]
    for border in (*_BORDERS, ""):  # with the last one, "", the text is encoded alone
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
    """Returns each context's tokens, and the rest of the whole's tokens, or None if the context's are no prefix."""
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
