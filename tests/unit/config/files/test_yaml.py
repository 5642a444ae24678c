"""YAML is read as plain data: safe, bounded, without surprises, and each fault has its line (fault 23)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from raytune_ft.config.files.yaml import MAX_BYTES, dump_text, dump_yaml, parse_yaml, read_yaml
from raytune_ft.errors import InputError


def problem(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/object:pathlib.Path {a: b}",
        "!!python/name:os.system",
        "!custom 3",
        "!!binary 'AAAA'",
        "!!int abc",
        "!!bool abc",
        "!!set {a, b}",
    ],
)
def test_tags_are_refused_on_every_kind_of_value(value, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = problem(f"a: 1\nb: {value}\n")
    assert message.startswith("f.yaml:2: tag ") and "is refused" in message
    assert list(tmp_path.iterdir()) == []


def test_duplicate_keys_are_refused_with_both_lines() -> None:
    assert problem("a: 1\nb: {c: 1}\na: 2\n") == "f.yaml:3: key a stands twice (first on line 1); keep one"
    assert problem("b:\n  c: 1\n  c: 1\n") == "f.yaml:3: key c stands twice (first on line 2); keep one"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E4", 1e4),
        ("-2e3", -2e3),
        ("1.5e-4", 1.5e-4),
        ("1e-4x", "1e-4x"),
        ("'1e-4'", "1e-4"),
        ("2026-01-31", "2026-01-31"),
        ("0.1", 0.1),
        ("12", 12),
        ("~", None),
    ],
)
def test_numbers_and_texts_are_what_a_reader_takes_them_for(text, value) -> None:
    read = parse_yaml(f"a: {text}", "f.yaml").value["a"]
    assert read == value and type(read) is type(value)


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
    )
    assert problem(bomb) == "f.yaml:2: alias *a; aliases are refused; write the value out"


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 20_000, "a: " + "{b: " * 20_000, "\n".join(" " * i + "k:" for i in range(500))]
)
def test_deep_nesting_is_refused_at_once(text) -> None:
    started = time.monotonic()
    assert "is nested too deeply" in problem(text)
    assert time.monotonic() - started < 50


def test_a_number_too_long_to_be_one_is_refused_on_its_line() -> None:
    assert problem("a: 1\nb: " + "9" * 6000).startswith("f.yaml:2: 9999")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a:\n\tb: 1\n",
            "f.yaml:2: not valid YAML (found character '\\t' that cannot start any token); fix the syntax",
        ),
        ("a: [1\nb: 2\n", "f.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML (but found another document)"),
        ("a: 'x\n", "f.yaml:2: not valid YAML"),
        ("a: \0", "f.yaml: not valid YAML (unacceptable character #x0000"),
        ("[a]: 1", "f.yaml:1: a key is not a plain word; write `key: value`"),
        ("", "f.yaml: is empty; raytune-ft init writes one to start from"),
        ("# nothing\n", "f.yaml: is empty"),
        ("- a\n- b\n", "f.yaml: is a list, not a mapping; write `key: value` lines"),
        ("hello", "f.yaml: is a str, not a mapping"),
    ],
)
def test_what_is_no_mapping_of_plain_values_is_refused(text, message) -> None:
    assert problem(text).startswith(message)


def test_bytes_that_are_no_utf_8_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes("a: 1\nb: caf\xe9\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"f\.yaml:2: byte 0xe9 is not UTF-8; save it as UTF-8"):
        read_yaml(path)
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match="is not UTF-8"):
        read_yaml(path)
    path.write_bytes(b"\x00\x01\x02\x03")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(path)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes("\ufeffname: caf\xe9\r\n".encode())
    assert read_yaml(tmp_path / "f.yaml").value == {"name": "caf\xe9"}


def test_a_file_too_large_to_be_a_configuration_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("a: 1\n" * 400_000)
    with pytest.raises(InputError, match=rf"2000000 bytes is too large for a configuration; give at most {MAX_BYTES}"):
        read_yaml(path)


def test_a_path_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: No such file or directory; give the path of a YAML file"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        read_yaml(tmp_path)


def test_each_key_knows_its_line() -> None:
    document = parse_yaml("a:\n  b:\n  - c: 1\n  - d: 2\n", "f.yaml")
    assert document.place(("a",)) == "f.yaml:1"
    assert document.place(("a", "b", 1, "d")) == "f.yaml:4"
    assert document.place(("a", "b", 1, "d", "missing")) == "f.yaml:4"
    assert document.place(("nowhere",)) == "f.yaml"


@pytest.mark.parametrize(
    "text",
    [
        "1e5",
        "yes",
        "null",
        "12",
        "0x1f",
        "2026-01-31",
        "",
        " a",
        "a: b",
        "a #b",
        "it's",
        '"',
        "ü\u2028x",
        "*a",
        "...",
        "a\nb",
    ],
)
def test_any_text_that_is_written_reads_back_as_that_text(text) -> None:
    assert parse_yaml(dump_yaml({"a": [text]}), "f").value == {"a": [text]}
    assert parse_yaml(f"a: {dump_text(text)}  # comment\nb: 1", "f").value == {"a": text, "b": 1}
