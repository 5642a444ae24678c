"""Loads and uses the base model's tokenizer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from raytune_ft.data.base_model import local_files
from raytune_ft.errors import InputError
from raytune_ft.lean_imports import import_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(base_model: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Loads the tokenizer unchanged, except that one without a padding token pads with its end token.

    Raises:
        InputError: It can't be loaded, or has no end token.
    """
    import_transformers()
    from transformers import AutoTokenizer

    directory = local_files(base_model)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(
            "base_model", f"the tokenizer of {base_model} can't be loaded: {error}", "check its files"
        ) from error
    if tokenizer.eos_token_id is None:
        remedy = "set eos_token in tokenizer_config.json"
        raise InputError("base_model", f"the tokenizer of {base_model} has no end-of-sequence token", remedy)
    if tokenizer.pad_token_id is None:
        logging.getLogger(__name__).info("the tokenizer has no padding token; its end token is used")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer  # type: ignore[no-any-return]


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, special_tokens: bool) -> list[list[int]]:
    """Returns the token ids of each text.

    Args:
        tokenizer: The tokenizer.
        texts: Any number of texts.
        special_tokens: Whether the tokenizer adds its special tokens, as it does when a prompt is served.
    """
    if not texts:
        return []
    encoding = tokenizer(texts, add_special_tokens=special_tokens, return_attention_mask=False, verbose=False)
    ids: list[list[int]] = encoding["input_ids"]
    return ids


def added_start(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Returns the start token that the tokenizer puts before every text, or None."""
    added = encode(tokenizer, [""], special_tokens=True)[0][:1]
    return added[0] if added and added[0] == tokenizer.bos_token_id else None


def added_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the number of tokens that the tokenizer puts after every text, as BERT's does."""
    (inner,), (whole,) = (encode(tokenizer, ["a"], special_tokens=added) for added in (False, True))
    starts = [at for at in range(len(whole)) if inner and whole[at : at + len(inner)] == inner]
    return len(whole) - starts[0] - len(inner) if starts else 0
