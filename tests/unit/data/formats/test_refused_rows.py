"""A row that is wrong is refused with what is wrong and what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from raytune_ft.config.data import DataFormat
from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.formats.choose import parse_row

USER = {"role": "user", "content": "hi"}
YES, NO = ({"role": "assistant", "content": text} for text in ("yes", "no"))
PAIR, CHAT = DataFormat.prompt_completion, DataFormat.messages
PREFERENCE, PREFERENCE_CHAT = DataFormat.preference, DataFormat.preference_messages


@pytest.mark.parametrize(
    ("form", "value", "what", "remedy"),
    [
        (PAIR, {"prompt": "a"}, 'has no "completion"', 'needs "completion"'),
        (PAIR, {"prompt": "a", "completoin": "b"}, 'has no "completion"', 'rename "completoin"'),
        (PAIR, {"messages": [USER]}, "looks like format messages", "set data.format: messages"),
        (CHAT, {"prompt": "a", "completion": "b"}, "looks like format prompt_completion", "set data.format"),
        (PAIR, {"prompt": "a", "completion": 3}, '"completion" is a number, not a string', "quotes"),
        (PAIR, {"prompt": None, "completion": "b"}, '"prompt" is null, not a string', "quotes"),
        (PAIR, {"prompt": "a", "completion": "b", "system": "c"}, 'key "system" would be ignored', "remove it"),
        (CHAT, {"messages": [USER], "tools": []}, 'key "tools" would be ignored', "remove it"),
        (CHAT, {"messages": []}, '"messages" is an empty list', "list of"),
        (CHAT, {"messages": "hi"}, '"messages" is a string', "list of"),
        (CHAT, {"messages": [USER, "hi"]}, "messages[1] is a string", "object"),
        (CHAT, {"messages": [{"role": "user"}]}, 'messages[0] has no "content"', "add it"),
        (CHAT, {"messages": [{**USER, "weight": 0}]}, 'messages[0]: key "weight" would be ignored', "remove it"),
        (CHAT, {"messages": [{**USER, "role": "assitant"}]}, '"assitant" is unknown', 'did you mean "assistant"?'),
        (CHAT, {"messages": [{**USER, "role": "gpt"}]}, '"gpt" is unknown', "use system, user, assistant or tool"),
        (CHAT, {"messages": [{**USER, "content": None}]}, 'messages[0]: "content" is null', "quotes"),
        (PREFERENCE, {"prompt": "a", "chosen": "b", "rejected": "b"}, "are equal", "mend an answer"),
        (PREFERENCE, {"chosen": "a b", "rejected": "a b"}, "are equal", "mend an answer"),
        (PREFERENCE, {"chosen": "yes", "rejected": "no"}, "begin with no words in common", 'add "prompt"'),
        (PREFERENCE, {"chosen": "yesterday", "rejected": "yes"}, "begin with no words in common", 'add "prompt"'),
        (PREFERENCE, {"chosen": "a b ", "rejected": "a b c"}, 'all of "chosen" stands in the other', 'add "prompt"'),
        (PREFERENCE, {"chosen": "a b c", "rejected": "a b "}, 'all of "rejected" stands in the other', 'add "prompt"'),
        (PREFERENCE, {"prompt": [USER], "chosen": [YES]}, "looks like format preference_messages", "data.format"),
        (PREFERENCE, {"prompt": "a", "chosen": "b", "rejected": "c", "completion": "d"}, '"completion" would be', ""),
        (PREFERENCE_CHAT, {"prompt": "a", "chosen": [YES], "rejected": [NO]}, '"prompt" is a string', "leave it out"),
        (PREFERENCE_CHAT, {"prompt": [], "chosen": [YES], "rejected": [NO]}, '"prompt" is an empty list', "list of"),
        (PREFERENCE_CHAT, {"prompt": [USER], "chosen": [YES], "rejected": [YES]}, "are equal", "mend an answer"),
        (PREFERENCE_CHAT, {"prompt": [USER], "chosen": [YES, USER, NO], "rejected": [NO]},
         '"chosen" holds assistant, user, assistant after the prompt', "one message of the assistant"),
        (PREFERENCE_CHAT, {"prompt": [USER], "chosen": [YES], "rejected": [USER]}, '"rejected" holds user', "one"),
        (PREFERENCE_CHAT, {"chosen": [USER, YES], "rejected": [USER]}, '"rejected" holds nothing', "one message"),
        (PREFERENCE_CHAT, {"chosen": [YES], "rejected": [NO]}, "begin with no message in common", 'add "prompt"'),
        (PREFERENCE_CHAT, {"prompt": [USER], "chosen": [{"role": "assistant"}], "rejected": [NO]},
         'chosen[0] has no "content"', "add it"),
    ],
)  # fmt: skip
def test_a_row_of_another_shape_is_refused_with_a_remedy(form: DataFormat, value: Any, what: str, remedy: str) -> None:
    with pytest.raises(BadRow, match=re.escape(what)) as caught:
        parse_row(value, 1, form)
    assert remedy in caught.value.remedy
