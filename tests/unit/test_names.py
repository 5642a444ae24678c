"""One rule for names that become a path (fault 26)."""

from __future__ import annotations

import re

import pytest

from raytune_ft.errors import InputError
from raytune_ft.names import NAME_PATTERN, check_name, is_name


@pytest.mark.parametrize("name", ["a", "7", "movies", "movie-sentiment", "a.b_c-d", "smollm2-135m", "a" * 64])
def test_plain_names_are_taken(name: str) -> None:
    assert is_name(name) and check_name("name", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../../etc",
        "/abs",
        "a/b",
        "a\\b",
        "a:b",
        "a@3",
        "a..b",
        "-a",
        "a-",
        ".a",
        "a.",
        "A",
        "a b",
        "a\n",
        "a\0",
        "a%2e",
        "a" * 65,
        "a" * 300,
        "m\u043evies",  # a Cyrillic o
        "\uff41",  # a full-width a
        "\u0661",  # an Arabic digit
        "mo\u0308vies",
    ],
)
def test_a_name_that_could_be_a_way_out_or_another_name_is_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(InputError) as caught:
        check_name("--name", name)
    line = str(caught.value)
    assert line.startswith("--name: ") and "is not a valid name; use 1-64" in line
    assert line.isascii() and "\n" not in line and len(line) < 300


def test_the_schema_holds_the_same_pattern() -> None:
    assert re.compile(NAME_PATTERN).fullmatch("a.b") and not re.compile(NAME_PATTERN).fullmatch("a/b")
