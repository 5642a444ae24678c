from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.errors import InputError
from raytune_ft.serving.gateway.key_ring import check_exposure
from raytune_ft.serving.gateway.keys import create_key, revoke_key
from raytune_ft.serving.local.session import served
from raytune_ft.serving.settings import (
    API_KEY_VARIABLE,
    Limits,
    ServeArgs,
    is_loopback,
    parse_serve_args,
    read_api_key,
)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    check_exposure(ServeArgs(base_model="x", host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.example.org", ""])
def test_a_host_that_others_reach_needs_a_key(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_loopback(host)
    args = ServeArgs(base_model="x", host=host)
    with pytest.raises(InputError, match="no API key is set") as refused:
        check_exposure(args)
    assert refused.value.exit_code == 2
    monkeypatch.setenv(API_KEY_VARIABLE, "a-good-long-key")
    check_exposure(args)


def test_a_key_of_the_file_counts_until_it_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    args = ServeArgs(base_model="x", host="0.0.0.0", api_keys_file=str(path))
    with pytest.raises(InputError, match="is missing"):
        check_exposure(args)
    create_key(path, "alice")
    check_exposure(args)
    revoke_key(path, "alice")
    with pytest.raises(InputError, match="no API key is usable"):
        check_exposure(args)


def test_prompts_are_not_logged_nowhere() -> None:
    with pytest.raises(InputError, match="log_prompts needs log_dir"):
        parse_serve_args({"base_model": "x", "log_prompts": True})


def test_serving_to_others_without_a_key_starts_nothing(tmp_path: Path) -> None:
    """Fault 28."""
    with pytest.raises(InputError, match="no API key"), served(ServeArgs(base_model="x", host="0.0.0.0")):
        raise AssertionError("was served")


def test_a_port_in_use_is_an_input_error(tmp_path: Path, write_base: Any) -> None:
    base = write_base()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        args = ServeArgs(base_model=str(base), registry=None, port=busy.getsockname()[1])
        with pytest.raises(InputError, match="can't listen there"), served(args):
            raise AssertionError("was served")


def test_the_key_comes_from_its_file_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_api_key(None) is None
    monkeypatch.setenv(API_KEY_VARIABLE, "key-of-environment")
    assert read_api_key(None) == "key-of-environment"
    path = tmp_path / "key"
    path.write_text("key-of-the-file\nmore\n")
    assert read_api_key(str(path)) == "key-of-the-file"


@pytest.mark.parametrize("key", ["", "   ", "short", "schlüssel-lang", "with\x00control"])
def test_a_key_that_is_none_is_refused_and_never_shown(key: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(key)
    with pytest.raises(InputError) as refused:
        read_api_key(str(path))
    assert not key.strip() or key.strip() not in str(refused.value).replace(str(path), "")


def test_a_missing_key_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        read_api_key(str(tmp_path / "none"))


@pytest.mark.parametrize(
    "args",
    [{}, {"base_model": "x", "prot": 1}, {"base_model": "x", "port": 70000}, {"base_model": "x", "limits": {"n": 1}}],
)
def test_wrong_arguments_of_a_serve_config_are_input_errors(args: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"args\."):
        parse_serve_args(args)


def test_arguments_of_a_serve_config_are_parsed() -> None:
    args = parse_serve_args({"base_model": "x", "adapters": ["movies"], "limits": {"max_n": 2}})
    assert args == ServeArgs(base_model="x", adapters=("movies",), limits=Limits(max_n=2))
