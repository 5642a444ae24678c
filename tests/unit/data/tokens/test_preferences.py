"""Preference rows in token ids: those of TRL where nothing is truncated, and truncated on the left of the question."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raytune_ft.data.bad_rows import BadRows
from raytune_ft.data.rows import Conversation, Message, Preference, PromptCompletion
from raytune_ft.data.tokens.preferences import PreferenceTokeniser, PreferenceTokens
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenizer import load_tokenizer

PLAIN = [
    ("Note: the harbour is sunny.\nSwim:", " yes", " no"),
    ("Note: the market is foggy and windy.\nSwim:", " no, not at all", " yes"),
    ("Swim:\n", "yes", "no"),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return load_tokenizer(str(tiny_llama))


def plain(prompt: str, chosen: str, rejected: str, line: int = 1) -> Preference:
    return Preference(PromptCompletion(prompt, chosen, line), PromptCompletion(prompt, rejected, line), line)


def chat(question: list[Message], chosen: str, rejected: str, line: int = 1) -> Preference:
    sides = (Conversation((*question, Message("assistant", answer)), line) for answer in (chosen, rejected))
    return Preference(*sides, line)


def tokenise(
    tokenizer: Any, rows: list[Preference], template: ChatTemplate | None = None, length: int = 256
) -> tuple[list[PreferenceTokens | None], BadRows]:
    bad_rows = BadRows(Path("train.jsonl"))
    tokeniser = PreferenceTokeniser(tokenizer, template, length)
    return [tokens for _, tokens in tokeniser.rows(rows, bad_rows)], bad_rows


def by_trl(tokenizer: Any, rows: list[dict[str, Any]]) -> list[dict[str, list[int]]]:
    """What DPOTrainer trains on, without making one."""
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOTrainer

    trainer: Any = SimpleNamespace(_tokenizer=tokenizer)
    arguments: Any = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
    found = DPOTrainer._prepare_dataset(trainer, Dataset.from_list(rows), tokenizer, arguments, "train")
    return [{key: row[key] for key in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in found]


def columns(tokens: PreferenceTokens | None) -> dict[str, list[int]]:
    assert tokens is not None and not tokens.cut
    return {"prompt_ids": tokens.prompt, "chosen_ids": tokens.chosen, "rejected_ids": tokens.rejected}


def test_plain_rows_have_the_tokens_that_trl_would_train_on(tokenizer: Any) -> None:
    found, bad_rows = tokenise(tokenizer, [plain(*row) for row in PLAIN])
    rows = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in PLAIN]
    assert [columns(tokens) for tokens in found] == by_trl(tokenizer, rows) and not bad_rows.count


def test_conversations_have_the_tokens_of_trl_up_to_the_end_token(tokenizer: Any) -> None:
    """TRL also trains on what a template writes after it, which no endpoint ever generates."""
    question = [
        Message("system", "be brief"),
        Message("user", "sunny?"),
        Message("assistant", "so"),
        Message("user", "swim?"),
    ]
    found, _ = tokenise(tokenizer, [chat(question, "yes", "no")], ChatTemplate(tokenizer))
    prompt = [message.as_json() for message in question]
    sides = {side: [Message("assistant", text).as_json()] for side, text in (("chosen", "yes"), ("rejected", "no"))}
    (theirs,) = by_trl(tokenizer, [{"prompt": prompt, **sides}])
    ours = columns(found[0])
    served = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ours["prompt_ids"] == served == theirs["prompt_ids"]
    line_end = tokenizer("\n")["input_ids"]
    for side in ("chosen_ids", "rejected_ids"):
        assert ours[side][-1] == tokenizer.eos_token_id and [*ours[side], *line_end] == theirs[side]


def test_a_long_question_loses_its_beginning_until_the_longer_answer_fits(tokenizer: Any) -> None:
    row = plain(*PLAIN[1])
    (whole,), _ = tokenise(tokenizer, [row])
    assert whole is not None
    length = len(whole.prompt) + len(whole.chosen)
    assert len(whole.chosen) > len(whole.rejected)
    assert tokenise(tokenizer, [row], length=length)[0] == [whole]
    for row_, longer in ((row, whole.chosen), (plain(PLAIN[1][0], PLAIN[1][2], PLAIN[1][1]), whole.chosen)):
        (cut,), _ = tokenise(tokenizer, [row_], length=length - 4)
        assert cut is not None and cut.cut and cut.prompt == whole.prompt[4:]
        assert longer in (cut.chosen, cut.rejected) and whole.rejected in (cut.chosen, cut.rejected)


def test_a_row_needs_a_token_of_its_question_beside_whole_answers(tokenizer: Any) -> None:
    row = plain(*PLAIN[1])
    (whole,), _ = tokenise(tokenizer, [row])
    assert whole is not None
    (least,), _ = tokenise(tokenizer, [row], length=len(whole.chosen) + 1)
    assert least is not None and least.prompt == whole.prompt[-1:] and least.chosen == whole.chosen
    found, bad_rows = tokenise(tokenizer, [row], length=len(whole.chosen))
    assert found == [None] and not bad_rows.count


def test_a_start_token_stays_where_the_question_is_truncated(tokenizer: Any, llama_2_tokenizer: Any) -> None:
    row = plain("question, answer, question:", " good", " negative")
    (whole,), _ = tokenise(llama_2_tokenizer, [row])
    assert whole is not None and whole.prompt[0] == llama_2_tokenizer.bos_token_id
    longest = max(len(whole.chosen), len(whole.rejected))
    (cut,), _ = tokenise(llama_2_tokenizer, [row], length=longest + 3)
    assert cut is not None and cut.cut and cut.prompt == [whole.prompt[0], *whole.prompt[-2:]]
    assert tokenise(llama_2_tokenizer, [row], length=longest + 1)[0] == [None], "a start token alone is no question"


def test_a_question_without_tokens_is_a_bad_row_unless_a_start_token_is_added(
    tokenizer: Any, llama_2_tokenizer: Any
) -> None:
    rows = [plain("", " yes", " no", line=3), plain(*PLAIN[0], line=4)]
    found, bad_rows = tokenise(tokenizer, rows)
    assert len(found) == 1 and found == tokenise(tokenizer, rows[1:])[0]
    assert [str(line) for line in bad_rows.lines()] == [
        "train.jsonl:3: its prompt has no tokens, so nothing predicts an answer; give it one"
    ]
    (started,), none = tokenise(llama_2_tokenizer, rows[:1])
    assert started is not None and started.prompt == [llama_2_tokenizer.bos_token_id] and not none.count


def test_a_template_that_writes_the_question_by_its_answer_is_refused(tokenizer: Any) -> None:
    template = ChatTemplate(tokenizer)
    tokens = {"yes": ([5, 6, 7], [(2, 3)]), "no": ([5, 9, 8], [(2, 3)])}
    template.tokenise = lambda conversation: tokens[conversation.answer]  # type: ignore[method-assign]
    found, bad_rows = tokenise(tokenizer, [chat([Message("user", "swim?")], "yes", "no", line=7)], template)
    assert not found
    assert [str(line) for line in bad_rows.lines()] == [
        "train.jsonl:7: the chat template writes the question otherwise before the chosen answer than before the "
        "other; use a template that does both alike"
    ]


def test_rows_of_many_batches_stay_in_their_order(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [plain(f"Note {at}:", " yes", " no", line=at) for at in range(7)]
    at_once, _ = tokenise(tokenizer, rows)
    monkeypatch.setattr("raytune_ft.data.tokens.preferences.BATCH_ROWS", 3)
    assert tokenise(tokenizer, rows)[0] == at_once and len(at_once) == 7
