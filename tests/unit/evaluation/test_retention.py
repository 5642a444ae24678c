"""Perplexity of general text, and the scores that a champion is compared with."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from raytune_ft.api import check_inputs, load_experiment
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.evaluation.recorded import read_scores, write_scores
from raytune_ft.evaluation.retention import MAX_TEXTS, MAX_TOKENS, general_text, perplexity, tokenised
from raytune_ft.objectives.scoring.scores import Scores


def test_the_shipped_text_is_forty_different_paragraphs() -> None:
    text = general_text(None)
    assert len(text.texts) == len(set(text.texts)) == 40
    assert all(len(each.split()) > 15 for each in text.texts)


def test_own_text_is_lines_of_json_or_paragraphs(tmp_path: Path) -> None:
    lines, plain = tmp_path / "own.jsonl", tmp_path / "own.txt"
    lines.write_text('\ufeff{"text": "One\u2028two."}\n\n{"text": "Three."}\n', encoding="utf-8")
    plain.write_text("One\ntwo.\n \n\nThree.\n", encoding="utf-8")
    assert general_text(str(lines)).texts == ("One\u2028two.", "Three.")
    assert general_text(str(plain)).texts == ("One two.", "Three.")
    plain.write_text("\n\n".join(f"Text {number}." for number in range(500)))
    assert len(general_text(str(plain)).texts) == MAX_TEXTS


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"text": "x"}\n{"prompt": "y"}\n', r'a\.jsonl:2: has no "text"'),
        ("a.jsonl", '{"text": "x"}\n{\n', r"a\.jsonl:2: not JSON"),
        ("a.txt", " \n\n", "holds no text"),
        ("a.txt", b"\xff\xfe\xfa", "give a UTF-8 text"),
        ("a.txt", None, "No such file"),
    ],
)
def test_text_that_is_wrong_is_a_clear_error(
    tmp_path: Path, name: str, content: str | bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=words):
        general_text(str(tmp_path / name))


def test_a_missing_text_is_found_before_the_search(toy_experiment, tmp_path: Path) -> None:
    path = toy_experiment(promotion={"retention": {"text": str(tmp_path / "nowhere.txt")}})
    with pytest.raises(InputError, match=r"promotion\.retention\.text: .*nowhere\.txt"):
        check_inputs(load_experiment(path))
    check_inputs(load_experiment(path, ["promotion.retention=null"]))


def test_perplexity_is_that_of_all_tokens_but_each_first(tiny_llama: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    (tmp_path / "own.txt").write_text("Note: the harbour is empty.\n\nSunny\n\n" + "foggy and quiet " * 300)
    tokenizer = load_tokenizer(str(tiny_llama))
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval().requires_grad_(False)
    rows = tokenised(general_text(str(tmp_path / "own.txt")), tokenizer)
    assert max(map(len, rows["input_ids"])) == MAX_TOKENS
    found, tokens = perplexity(model, rows, tokenizer.pad_token_id)
    losses = []
    for ids in rows["input_ids"]:
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-float(logprobs[at - 1, ids[at]]) for at in range(1, len(ids))]
    assert tokens == len(losses)
    assert found == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-3)


def test_scores_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    scores = Scores(np.array([0.1, 0.25]), np.array([2, 3]), np.array([0, 1]), np.array([1, 1]))
    write_scores(path, "abc", scores)
    again = read_scores(path, "abc")
    for name in ("loss", "tokens", "choice", "expected"):
        assert (getattr(again, name) == getattr(scores, name)).all()
        assert getattr(again, name).dtype == getattr(scores, name).dtype
    write_scores(path, "abc", Scores(np.array([0.1]), np.array([2]), None, None))
    assert read_scores(path, "abc").choice is None


@pytest.mark.parametrize("change", [{"loss": None}, {"loss": [0.1]}, {"tokens": "x"}, {"adapter_sha256": "other"}])
def test_scores_that_are_not_whole_or_of_other_weights_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "scores.json"
    write_scores(path, "abc", Scores(np.array([0.1, 0.2]), np.array([2, 3]), None, None))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(IntegrityError, match="run raytune-ft evaluate again"):
        read_scores(path, "abc")
