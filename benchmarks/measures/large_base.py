"""A base of some GiB with random weights: what lanes share is then most of what they hold."""

from __future__ import annotations

import shutil
from pathlib import Path

from measures.inputs import BASE

LAYERS, HIDDEN, INNER, HEADS, KV_HEADS = 24, 2048, 5632, 32, 8
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def write_large_base(directory: Path) -> Path:
    """A Llama of 1.2 billion parameters in bfloat16, with the small base's tokenizer."""
    import torch
    from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

    small = AutoConfig.from_pretrained(BASE)
    config = LlamaConfig(
        vocab_size=small.vocab_size,
        num_hidden_layers=LAYERS,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=small.max_position_embeddings,
        bos_token_id=small.bos_token_id,
        eos_token_id=small.eos_token_id,
        tie_word_embeddings=True,
        dtype=torch.bfloat16,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    for name in TOKENIZER:
        if (BASE / name).is_file():
            shutil.copy(BASE / name, directory / name)
    return directory


def size_mib(directory: Path) -> int:
    """Of its weights."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors")) >> 20
