from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.serving.gateway.key_ring import KeyRing
from raytune_ft.serving.gateway.keys import create_key, hash_token, read_keys, revoke_key
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def ring(path: Path) -> KeyRing:
    return KeyRing(ServeArgs(base_model="x", api_keys_file=str(path)))


def test_a_key_is_long_random_and_kept_as_its_hash_for_its_owner_alone(path: Path) -> None:
    first, second = create_key(path, "alice"), create_key(path, "bob")
    assert first.startswith("rft_") and len(first) == len("rft_") + 43 and first != second
    text = path.read_text()
    assert first not in text and first[4:] not in text
    assert [(key.name, key.sha256, key.revoked) for key in read_keys(path)] == [
        ("alice", hash_token(first.encode()), None), ("bob", hash_token(second.encode()), None),
    ]  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_made_at_once_are_all_kept(path: Path) -> None:
    threads = [threading.Thread(target=create_key, args=(path, f"key-{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.name for key in read_keys(path)) == [f"key-{number}" for number in range(8)]


@pytest.mark.parametrize("name", ["", "Alice", "a b", "../x", "a:b", "x" * 65, "default", "älice"])
def test_a_name_that_breaks_the_rule_or_is_taken_makes_no_key(name: str, path: Path) -> None:
    with pytest.raises(InputError):
        create_key(path, name)
    assert not path.exists()


def test_a_name_has_one_usable_key_at_a_time(path: Path) -> None:
    first = create_key(path, "alice")
    with pytest.raises(InputError, match="has a usable key 'alice'"):
        create_key(path, "alice")
    assert revoke_key(path, "alice").revoked is not None
    with pytest.raises(InputError, match="no usable key 'alice'"):
        revoke_key(path, "alice")
    second = create_key(path, "alice")
    keys = ring(path)
    assert (keys.name_of(first.encode()), keys.name_of(second.encode())) == (None, "alice")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "keys": []}', '{"schema": 1, "keys": [{"name": "a"}]}'])
def test_a_broken_file_is_refused_at_the_start(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(IntegrityError, match=r"keys\.json"):
        ring(path)
    with pytest.raises(IntegrityError):
        create_key(path, "alice")
    assert path.read_text() == text


def test_the_key_of_the_environment_has_the_name_default(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = create_key(path, "alice")
    monkeypatch.setenv(API_KEY_VARIABLE, "key-of-environment")
    keys = ring(path)
    assert (keys.name_of(b"key-of-environment"), keys.name_of(token.encode())) == ("default", "alice")
    assert (keys.name_of(b""), keys.name_of(hash_token(token.encode()).encode())) == (None, None)
    assert keys.usable == 2


def test_a_revoked_and_a_new_key_are_seen_without_a_restart(path: Path) -> None:
    alice = create_key(path, "alice").encode()
    keys = ring(path)
    assert keys.name_of(alice) == "alice"
    revoke_key(path, "alice")
    bob = create_key(path, "bob").encode()
    keys.refresh()
    assert (keys.name_of(alice), keys.name_of(bob)) == (None, "bob")


def test_no_request_touches_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 37: it may lie on storage that hangs."""
    alice = create_key(path, "alice").encode()
    keys = ring(path)

    def hang(*_: object, **__: object) -> None:
        raise AssertionError("asked the disk")

    monkeypatch.setattr(os, "stat", hang)
    monkeypatch.setattr(Path, "open", hang)
    assert keys.name_of(alice) == "alice"


@pytest.mark.parametrize("harm", ["vanishes", "breaks"])
def test_a_file_that_is_lost_while_serving_keeps_the_last_good_keys(
    harm: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alice = create_key(path, "alice").encode()
    keys, good = ring(path), path.read_text()
    if harm == "vanishes":
        path.unlink()
    else:
        path.write_text(good[:-20])
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            keys.refresh()
            assert keys.name_of(alice) == "alice"
    assert len(caplog.messages) == 1 and "the keys stay as they were" in caplog.messages[0]
    path.write_text(good)
    revoke_key(path, "alice")
    keys.refresh()
    assert keys.name_of(alice) is None


def test_with_all_keys_revoked_the_door_stays_shut(path: Path) -> None:
    create_key(path, "alice")
    revoke_key(path, "alice")
    keys = ring(path)
    assert (keys.wanted, keys.usable, keys.name_of(b"")) == (True, 0, None)
