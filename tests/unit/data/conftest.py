"""A base model directory without a model, and small tokenizers of each kind in use, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment

CORPUS = [
    "Review: the film was good and bad, positive and negative.\nSentiment: positive",
    "Sentiment: negative\nSentiment: possible post, user and assistant apart: question, answer, thanks.",
] * 20
CHAT = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} "
    "[/INST]{% else %} {{ message['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
"""Llama-2's: spaces around what is said, and no special token before an answer."""
_SPECIAL = ["<unk>", "<s>", "</s>"]
_WORD = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]


def llama_2() -> Any:
    """SentencePiece's BPE as Llama-2's files have it: a normaliser writes a space before each text and each part of it
    that a special token begins; unknown characters are bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary, merges = _merges()
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    spaces, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    made.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse(), strip])
    return _wrapped(made, starts=True)


def metaspace_first() -> Any:
    """SentencePiece's BPE as newer files have it: a space before the first part alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary, merges = _merges()
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    return _wrapped(made, starts=True)


def byte_level() -> Any:
    """GPT-2's kind; offsets leave out the space that a token begins with."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=_SPECIAL, initial_alphabet=alphabet)
    made.train_from_iterator(CORPUS, trainer)
    return _wrapped(made)


def word_piece() -> Any:
    """BERT's kind: spaces are lost, and a special token stands before and behind each text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=_WORD))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]"
    )
    tokenizer.chat_template = CHAT
    return tokenizer


KINDS = {"Llama-2": llama_2, "Metaspace first": metaspace_first, "byte-level": byte_level, "WordPiece": word_piece}


def without_offsets() -> Any:
    """A tokenizer in Python, one token for each character; `ab` in front of `c` is one."""
    from transformers import PreTrainedTokenizer

    class Characters(PreTrainedTokenizer):
        def __init__(self, **options: Any) -> None:
            self._known = ["<unk>", "<s>", "</s>", "abc", *(chr(code) for code in range(32, 127)), "\n"]
            super().__init__(**options)

        @property
        def vocab_size(self) -> int:
            return len(self._known)

        def get_vocab(self) -> dict[str, int]:
            return {token: number for number, token in enumerate(self._known)}

        def _tokenize(self, text: str, **options: Any) -> list[str]:
            return [each for part in text.replace("abc", "\0abc\0").split("\0") for each in _pieces(part)]

        def _convert_token_to_id(self, token: str) -> int:
            return self._known.index(token) if token in self._known else 0

        def _convert_id_to_token(self, index: int) -> str:
            return self._known[index]

    tokenizer = Characters(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>")
    tokenizer.chat_template = CHAT
    return tokenizer


def _pieces(part: str) -> Iterable[str]:
    return [part] if part == "abc" else part


def _merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """What SentencePiece would find: its spaces are letters, and no token goes over one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=_SPECIAL))
    found = json.loads(made.to_str())["model"]
    return found["vocab"], [(one, other) for one, other in found["merges"]]


def _wrapped(made: Any, *, starts: bool = False) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    if starts:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture(scope="session", params=list(KINDS))
def tokenizer_of_a_kind(request: pytest.FixtureRequest) -> Any:
    """One of each kind; tests leave it as it is."""
    return KINDS[request.param]()


@pytest.fixture(scope="session")
def llama_2_tokenizer() -> Any:
    return llama_2()


@pytest.fixture(scope="session")
def byte_level_tokenizer() -> Any:
    return byte_level()


@pytest.fixture(scope="session")
def slow_tokenizer() -> Any:
    return without_offsets()


TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("models") / "tokenizer-only"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    bpe.train_from_iterator(["assistant user system good bad answer question"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    (directory / "model.safetensors").write_bytes(b"")
    return directory


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes `rows` (objects, or whole lines) to a JSONL file under `tmp_path`."""

    def write(name: str, rows: list[Any]) -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def experiment(base_model: Path) -> Callable[..., Experiment]:
    """An experiment on the tokenizer-only model; `data` and other top-level keys as keyword arguments."""

    def make(data: dict[str, Any], **others: Any) -> Experiment:
        values = {
            "name": "test",
            "base_model": str(base_model),
            "train": {"per_device_train_batch_size": 2},
            "data": {key: str(value) if isinstance(value, Path) else value for key, value in data.items()},
        }
        return Experiment.model_validate({**values, **others})

    return make
