"""Labels as the tokens that they would have as a row's last answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.checks import check_data
from raytune_ft.data.prepared import open_prepared
from raytune_ft.data.rows import Conversation, Message, PromptCompletion
from raytune_ft.data.tokens.labels import LabelReader, RowLabels
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.errors import InputError
from raytune_ft.objectives.prepared import prepare

THINKS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Opens the last answer with an empty thought, as Qwen 3's does."""
ASKS_WITH_A_THOUGHT = THINKS.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}").replace(
    "<think>\n\n</think>\n\n", ""
)


def pair(completion: str, prompt: str = "Review: good\nSentiment:") -> PromptCompletion:
    return PromptCompletion(prompt, completion, 3)


def chat(*answers: str) -> Conversation:
    turns = [Message(role, text) for answer in answers for role, text in (("user", "question"), ("assistant", answer))]
    return Conversation(tuple(turns), 3)


def shown(tokenizer: Any, found: RowLabels) -> list[str]:
    return [tokenizer.decode(list(label)) for label in found.labels]


def test_labels_that_begin_alike_are_told_apart(tokenizer_of_a_kind: Any) -> None:
    """Encoded alone, Llama-2's tokens of both would begin with one for the space."""
    tokenizer, labels = tokenizer_of_a_kind, [" positive", " possible", " negative"]
    found = LabelReader(tokenizer, None, labels).read(pair(" possible"))
    assert [text.strip().replace(" ##", "") for text in shown(tokenizer, found)] == [label.strip() for label in labels]
    assert found.expected == 1
    assert found.answer == (*found.labels[1], tokenizer.eos_token_id)
    whole = tokenizer("Review: good\nSentiment: possible", add_special_tokens=False)["input_ids"]
    assert tuple(whole[-len(found.labels[1]) :]) == found.labels[1]


def test_the_end_counts_where_a_label_begins_another(slow_tokenizer: Any) -> None:
    reader = LabelReader(slow_tokenizer, None, ["pos", "positive", "neg"])
    found = reader.read(pair("positive"))
    assert found.expected == 1
    ends = [slow_tokenizer.convert_ids_to_tokens(list(label))[-1] for label in found.labels]
    assert ends == ["</s>"] * 3
    with pytest.raises(BadRow, match="goes on after the label 'pos', and as labels begin each other, its end counts"):
        reader.read(pair("pos, as it is good"))


def test_an_answer_may_go_on_after_its_label(slow_tokenizer: Any) -> None:
    found = LabelReader(slow_tokenizer, None, ["pos", "neg"]).read(pair("neg, as it is bad"))
    assert found.expected == 1 and [len(label) for label in found.labels] == [3, 3] and len(found.answer) == 18


def test_an_answer_that_begins_with_a_label_in_letters_alone_is_refused(byte_level_tokenizer: Any) -> None:
    reader = LabelReader(byte_level_tokenizer, None, [" pos", " negative"])
    with pytest.raises(BadRow, match="answer ' positive' begins with the label ' pos', but with other tokens"):
        reader.read(pair(" positive"))
    with pytest.raises(BadRow, match=r"answer ' neutral' is none of evaluate.labels \[' pos', ' negative'\]"):
        reader.read(pair(" neutral"))


def test_an_empty_prompt_tells_no_labels_apart(byte_level_tokenizer: Any) -> None:
    with pytest.raises(BadRow, match="its prompt has no tokens"):
        LabelReader(byte_level_tokenizer, None, [" positive", " negative"]).read(pair(" positive", prompt=""))


@pytest.fixture
def tokenizer(base_model: Path) -> Any:
    from raytune_ft.data.tokens.tokenizer import load_tokenizer

    return load_tokenizer(str(base_model))


@pytest.mark.parametrize("thinks", [False, True])
def test_in_a_chat_the_last_answers_content_is_compared(tokenizer: Any, thinks: bool) -> None:
    tokenizer.chat_template = THINKS if thinks else tokenizer.chat_template
    row = chat("good") if thinks else chat("bad", "bad", "good")
    template = ChatTemplate(tokenizer)
    found = LabelReader(tokenizer, template, ["bad", "good", "question"]).read(row)
    opened = "<think>\n\n</think>\n\n" if thinks else ""
    assert shown(tokenizer, found) == [opened + label for label in ("bad", "good", "question")]
    assert found.expected == 1 and tokenizer.decode(list(found.answer)) == f"{opened}good<|im_end|>"
    ids, spans = template.tokenise(row)
    assert tuple(ids[slice(*spans[-1])]) == found.answer


def test_in_a_chat_the_end_is_the_templates(tokenizer: Any) -> None:
    """No word of the tokenizer holds `gx`, so that label's tokens are `g` and `x`."""
    found = LabelReader(tokenizer, ChatTemplate(tokenizer), ["g", "gx", "bad"]).read(chat("bad", "gx"))
    assert shown(tokenizer, found) == ["g<|im_end|>", "gx<|im_end|>", "bad<|im_end|>"] and found.expected == 1
    without_end = tokenizer.chat_template.replace("<|im_end|>", "")
    tokenizer.chat_template = without_end.replace("{{ message['content'] }}\n", "{{ message['content'] }}")
    with pytest.raises(InputError, match="'g' begins 'gx', and the chat template writes no end of an answer; reword"):
        LabelReader(tokenizer, ChatTemplate(tokenizer), ["g", "gx"]).read(chat("gx"))


def test_a_template_that_asks_with_an_open_thought_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = ASKS_WITH_A_THOUGHT
    with pytest.raises(BadRow) as problem:
        ChatTemplate(tokenizer).tokenise(chat("good"))
    what = r"the chat template ends a question with 'tart|>assistant\n<think>\n', and shows messages[1] without it"
    assert problem.value.what == what


@pytest.mark.parametrize("shows", ["{{ message['content'] | length }}", "{{ message['content'] * 2 }}"])
def test_a_template_that_does_not_show_what_is_said_is_refused(tokenizer: Any, shows: str) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ message['content'] }}", shows)
    with pytest.raises(BadRow, match="doesn't show what the assistant says once, as it is"):
        LabelReader(tokenizer, ChatTemplate(tokenizer), ["good", "bad"]).read(chat("good"))


def test_labels_that_the_tokenizer_can_not_tell_apart_are_refused(experiment, write_rows, tmp_path: Path) -> None:
    """A template that trims makes one of two labels."""
    data = conversations(write_rows, ["good"])
    made = experiment(data, evaluate={"metrics": ["accuracy"], "labels": ["good", " good", "bad"]})
    trims = re.sub(
        r"message\['content'\]", "message['content'] | trim", Path(made.base_model, "chat_template.jinja").read_text()
    )
    model = tmp_path / "model"
    model.mkdir()
    for path in Path(made.base_model).iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "chat_template.jinja").write_text(trims)
    made = made.model_copy(update={"base_model": str(model)})
    with pytest.raises(InputError, match=r"^evaluate.labels: 'good' and ' good' have the same tokens; reword one$"):
        prepare(made, tmp_path / "data")


def conversations(write_rows: Any, answers: list[str]) -> dict[str, Any]:
    def lines(said: list[str]) -> list[Any]:
        return [
            {"messages": [
                {"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": "system"},
                {"role": "user", "content": "and"}, {"role": "assistant", "content": answer},
            ]}
            for number, answer in enumerate(said)
        ]  # fmt: skip

    train, test = write_rows("train.jsonl", lines(["good"] * 9)), write_rows("test.jsonl", lines(answers))
    return {"train": train, "test": test, "format": "messages", "max_length": 128}


def test_labels_of_chats_are_checked_before_anything_trains(experiment, write_rows, tmp_path: Path) -> None:
    settings = {"metrics": ["accuracy"], "labels": ["good", "bad"]}
    fine = experiment(conversations(write_rows, ["good", "bad, as it is"]), evaluate=settings)
    check_data(fine)
    assert prepare(fine, tmp_path / "data").sizes["test"] == 2
    wrong = experiment(conversations(write_rows, ["good", "answer"]), evaluate=settings)
    message = r"test\.jsonl:2: answer 'answer' is none of evaluate\.labels \['good', 'bad'\]; add it to the labels"
    with pytest.raises(InputError, match=message):
        check_data(wrong)
    # Only tokens tell that one: `user` is a token of its own, which `us` does not begin.
    wrong = experiment(conversations(write_rows, ["us", "user"]), evaluate={**settings, "labels": ["us", "bad"]})
    check_data(wrong)
    with pytest.raises(InputError, match=r"test\.jsonl:2: answer 'user' begins with the label 'us', but with other"):
        prepare(wrong, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_other_labels_are_checked_on_rows_that_are_there(experiment, write_rows, tmp_path: Path) -> None:
    data = conversations(write_rows, ["good", "bad"])
    before = prepare(experiment(data), tmp_path / "data")
    for labels in (["good", "bad"], ["bad", "good", "question"]):
        other = experiment(data, evaluate={"metrics": ["accuracy"], "labels": labels})
        assert prepare(other, tmp_path / "data", in_use=True) == before == open_prepared(tmp_path / "data")
    wrong = experiment(data, evaluate={"metrics": ["accuracy"], "labels": ["goo", "bad"]})
    with pytest.raises(InputError, match=r"test\.rows\.jsonl:1: answer 'good' begins with the label 'goo'"):
        prepare(wrong, tmp_path / "data", in_use=True)
