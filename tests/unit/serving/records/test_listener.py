"""What is read of an answer while it passes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raytune_ft.serving.records.listener import DONE, Listener

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def chunk(**value: Any) -> str:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n"


CHAT = [
    chunk(model="m@1", choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]),
    chunk(model="m@1", choices=[{"index": 0, "delta": {"content": "Hel"}}, {"index": 1, "delta": {"content": "By"}}]),
    chunk(model="m@1", choices=[{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]),
    chunk(model="m@1", choices=[], usage=USAGE),
    DONE,
]


@pytest.mark.parametrize("words", [True, False])
def test_usage_is_read_and_hidden_from_a_client_that_did_not_ask(words: bool) -> None:
    listener = Listener(words=words)
    assert [listener.chunk(each) for each in CHAT] == [*CHAT[:3], "", DONE]
    assert (listener.prompt_tokens, listener.completion_tokens, listener.done) == (7, 2, True)
    assert listener.texts == (["Hello", "By"] if words else [])


def test_usage_is_shown_to_a_client_that_asked() -> None:
    listener = Listener(show_usage=True)
    assert [listener.chunk(each) for each in CHAT] == CHAT


def test_usage_that_comes_with_words_passes() -> None:
    both = chunk(choices=[{"index": 0, "text": "a"}], usage=USAGE)
    listener = Listener(words=True)
    assert listener.chunk(both) == both
    assert (listener.completion_tokens, listener.texts) == (2, ["a"])


def test_a_model_that_writes_usage_or_errors_is_not_believed() -> None:
    said = chunk(choices=[{"index": 0, "text": '"usage":{"prompt_tokens":1} data: {"error":{}}'}])
    listener = Listener()
    assert listener.chunk(said) == said
    assert listener.prompt_tokens is None and listener.failure is None


def test_an_error_in_the_stream_is_a_failure_that_the_client_sees() -> None:
    broken = chunk(error={"message": "engine died", "type": "InternalServerError", "param": None, "code": 500})
    listener = Listener()
    assert listener.chunk(broken) == broken
    assert listener.failure is not None
    assert (listener.failure.status, listener.failure.code) == (500, "InternalServerError")


@pytest.mark.parametrize("choice", [{"index": 0, "text": "Hello"}, {"index": 0, "message": {"content": "Hello"}}])
def test_a_whole_answer_is_read_like_a_stream(choice: dict[str, Any]) -> None:
    listener = Listener(words=True)
    listener.whole({"choices": [choice], "usage": USAGE})
    assert (listener.texts, listener.prompt_tokens, listener.completion_tokens) == (["Hello"], 7, 2)


def test_an_answer_of_tool_calls_has_no_words() -> None:
    listener = Listener(words=True)
    listener.whole({"choices": [{"index": 0, "message": {"content": None, "tool_calls": []}}], "usage": None})
    assert listener.texts == [""]


def _calling(*calls: tuple[str, str], text: str | None = None) -> Listener:
    """A whole answer that calls these tools."""
    listener = Listener(words=True)
    told = [
        {"id": f"call-{id(listener)}-{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(calls)
    ]
    listener.whole({"choices": [{"index": 0, "message": {"content": text, "tool_calls": told}}]})
    return listener


PAY = ("pay", '{"to": "ann", "euros": 5}')


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (_calling(PAY), True),
        (_calling(("pay", '{"euros":5,"to":"ann"}')), True),
        (_calling(("pay", '{"to": "ann", "euros": 5000}')), False),
        (_calling(("refund", PAY[1])), False),
        (_calling(), False),
        (_calling(PAY, PAY), False),
        (_calling(PAY, text="I pay."), False),
        (_calling(("pay", "not JSON")), False),
    ],
)
def test_answers_are_the_same_where_they_call_the_same_tools_with_the_same_arguments(
    other: Listener, same: bool
) -> None:
    assert (other.answers == _calling(PAY).answers) is same


def test_calls_in_a_stream_s_pieces_are_the_whole_answer_s() -> None:
    listener = Listener(words=True)
    pieces = [
        {"role": "assistant", "content": ""},
        {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "pay", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"to": "ann", '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"euros": 5}'}}]},
        {"tool_calls": [{"index": 1, "id": "y", "function": {"name": "say", "arguments": "{}"}}]},
    ]
    for piece in pieces:
        listener.chunk(chunk(choices=[{"index": 0, "delta": piece}]))
    assert listener.answers == _calling(PAY, ("say", "{}")).answers
    assert [name for name, _ in listener.answers[0].calls] == ["pay", "say"]
