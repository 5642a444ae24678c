"""What holds for every format of a row: it reads what it writes, and refuses what it would misread."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from raytune_ft.config.data import DataFormat, format_of_keys
from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.formats.choose import PARSERS, parse_row

USER = {"role": "user", "content": "hi"}
YES, NO = ({"role": "assistant", "content": text} for text in ("yes", "no"))
GOOD: dict[DataFormat, dict[str, Any]] = {
    DataFormat.prompt_completion: {"prompt": " a ", "completion": " b\n"},
    DataFormat.messages: {"messages": [USER, YES]},
    DataFormat.preference: {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"},
    DataFormat.preference_messages: {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
}
OPTIONAL = {DataFormat.preference: ("prompt",), DataFormat.preference_messages: ("prompt",)}
"""Keys that may be left out."""
every_format = pytest.mark.parametrize("form", list(DataFormat))


def test_every_format_has_a_parser_and_a_row_here() -> None:
    assert set(PARSERS) == set(GOOD) == set(DataFormat)


@every_format
def test_a_good_row_is_written_as_it_was_read(form: DataFormat) -> None:
    row, canonical = parse_row({**GOOD[form], "id": 7}, 3, form), form.canonical
    assert form is not canonical or row.as_json() == GOOD[form]
    assert parse_row(json.loads(json.dumps(row.as_json())), 4, canonical) == row
    assert (row.line, row.form, row.has_answer()) == (3, canonical, True)


@every_format
def test_a_row_is_the_same_wherever_it_stands(form: DataFormat) -> None:
    rows = [parse_row(GOOD[form], line, form) for line in (1, 2)]
    assert rows[0] == rows[1] and len(set(rows)) == 1


@every_format
def test_question_and_answer_are_texts_or_messages_as_the_format_says(form: DataFormat) -> None:
    row = parse_row(GOOD[form], 1, form)
    assert isinstance(row.question, list if form.chat else str)
    asked, answered, turns = row.texts()
    assert row.answer in answered and asked and (turns > 0) is form.chat


@every_format
def test_the_format_is_recognised_by_its_keys(form: DataFormat) -> None:
    assert format_of_keys(GOOD[form]) is form


@pytest.mark.parametrize(
    ("form", "key"),
    [(form, key) for form in GOOD for key in GOOD[form] if key not in OPTIONAL.get(form, ())],
)
def test_a_missing_key_is_named(form: DataFormat, key: str) -> None:
    with pytest.raises(BadRow, match=f'has no "{key}"'):
        parse_row({name: value for name, value in GOOD[form].items() if name != key}, 1, form)


@pytest.mark.parametrize(("form", "key"), [(form, key) for form in GOOD for key in GOOD[form]])
def test_a_value_of_another_type_is_named(form: DataFormat, key: str) -> None:
    with pytest.raises(BadRow, match=f'"{key}" is a number'):
        parse_row({**GOOD[form], key: 3}, 1, form)


@every_format
def test_a_key_that_means_something_elsewhere_is_not_ignored(form: DataFormat) -> None:
    with pytest.raises(BadRow, match=re.escape(f'key "system" would be ignored by format {form}')):
        parse_row({**GOOD[form], "system": "Be brief."}, 1, form)


@pytest.mark.parametrize(("form", "other"), [(form, other) for form in GOOD for other in GOOD if form is not other])
def test_a_row_of_another_format_is_told_which(form: DataFormat, other: DataFormat) -> None:
    with pytest.raises(BadRow, match=f"looks like format {other}'") as caught:
        parse_row(GOOD[other], 1, form)
    others = "" if other.rows == form.rows else ", and an objective that takes such rows"
    assert caught.value.remedy == f"set data.format: {other}{others}"


@every_format
@pytest.mark.parametrize(("value", "kind"), [("text", "a string"), (None, "null"), ([1], "a list")])
def test_a_line_that_is_no_object_is_refused(form: DataFormat, value: object, kind: str) -> None:
    with pytest.raises(BadRow, match=f"is {kind}, not an object"):
        parse_row(value, 1, form)


def test_the_facts_of_the_formats() -> None:
    chat, pairs = {"messages", "preference_messages"}, {"preference", "preference_messages"}
    four = [DataFormat(each) for each in ("prompt_completion", "messages", "preference", "preference_messages")]
    assert {form for form in four if form.chat} == chat and {
        form for form in four if form.rows == "preference"
    } == pairs
    for form in DataFormat:
        assert form.served_as == ("messages" if form.chat else "prompt_completion") and form.keys
        assert (form.canonical.rows, form.canonical.chat) == (form.rows, form.chat) and form.canonical in four
        assert form.plain.rows == form.rows and not form.plain.chat
