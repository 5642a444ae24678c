"""A champion that can't be served: the version of before answers, and everybody who should know is told."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from raytune_ft.registry.traffic import canary, set_traffic


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"lora_rank": 16}, "its rank 16 is above max_lora_rank 8"),
        ({"base_sha256": "other"}, "trained on another base"),
        ({"merged": True, "lora_rank": 0}, "without an engine here"),
    ],
)
def test_a_champion_that_the_endpoint_has_no_room_for_leaves_the_one_of_before(
    serve: Any, promote: Any, ask: Any, records: Any, wait_for: Any, caplog: Any, manifest: dict[str, Any], reason: str
) -> None:
    """Fault 39."""
    client = serve()
    assert ask(client).json()["model"] == "base:movies@1"
    with caplog.at_level(logging.ERROR):
        promote(3, **manifest)
        listed = {model["id"]: model["metadata"] for model in client.get("/v1/models").json()["data"]}
        assert listed["base:movies"]["version"] == 1
        for model in ("base:movies", "base:movies@champion"):
            answer = ask(client, model)
            assert (answer.status_code, answer.json()["model"]) == (200, "base:movies@1")
    (held,) = client.get("/health").json()["held_back"]
    assert (held["champion"], held["answering"]) == ("base:movies@3", "base:movies@1")
    assert reason in held["reason"]
    assert {record.alias for record in records()} == {"champion"}
    client.headers.pop("authorization")
    assert client.get("/health").json() == {"status": "ok"}


def test_an_endpoint_that_starts_with_such_a_champion_answers_with_the_previous_one(
    serve: Any, promote: Any, ask: Any
) -> None:
    promote(3, lora_rank=16)
    assert ask(serve()).json()["model"] == "base:movies@1"


def test_a_champion_without_anyone_before_it_is_503_and_never_404(
    serve: Any, registry: Any, promote: Any, ask: Any
) -> None:
    promote(3, lora_rank=16)
    (registry.root / "movies" / "aliases.json").write_text('{"champion": 3}')
    (registry.root / "movies" / "journal.jsonl").unlink()  # which knows of the version before
    answer = ask(serve())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_served")
    assert "rank 16" in answer.json()["error"]["message"] and answer.headers["retry-after"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_champion_whose_files_do_not_load_is_never_seen_by_a_client(
    serve: Any, promote: Any, engine: Any, ask: Any, wait_for: Any, caplog: Any, stream: bool
) -> None:
    client = serve()
    engine.unloadable = {"base:movies@3"}
    assert ask(client, stream=stream).status_code == 200
    promote(3)
    client.get("/v1/models")
    for _ in range(3):
        assert '"base:movies@1"' in ask(client, stream=stream).text
    (held,) = wait_for(lambda: [each for each in client.get("/health").json()["held_back"] if "log" in each["reason"]])
    assert (held["champion"], held["answering"]) == ("base:movies@3", "base:movies@1")
    assert "secret" not in held["reason"] and "unsupported target" in caplog.text
    assert "base:movies@1 goes on answering" in caplog.text


def test_one_that_fails_with_the_first_request_is_replaced_within_that_request(
    serve: Any, promote: Any, engine: Any, ask: Any, records: Any
) -> None:
    promote(3)
    engine.unloadable = {"base:movies@3"}
    answer = ask(serve())  # nothing was loaded yet, so nobody could answer meanwhile
    assert (answer.status_code, answer.json()["model"]) == (200, "base:movies@1")
    (record,) = records()
    assert (record.status, record.answered) == (200, "base:movies@1")
    asked_by_number = ask(serve(), "base:movies@3")
    assert (asked_by_number.status_code, asked_by_number.json()["error"]["code"]) == (500, "model_not_loaded")


def test_while_a_champion_is_loaded_the_one_of_before_answers(
    serve: Any, promote: Any, engine: Any, ask: Any, wait_for: Any
) -> None:
    """Fault 37: its files may lie where nothing answers."""
    client = serve()
    ask(client)
    engine.loads = asyncio.Event()
    promote(3)
    client.get("/v1/models")
    assert [ask(client).json()["model"] for _ in range(3)] == ["base:movies@1"] * 3
    assert [each["reason"] for each in client.get("/health").json()["held_back"]] == ["it is being loaded"]
    client.portal.call(engine.loads.set)
    wait_for(lambda: ask(client).json()["model"] == "base:movies@3")
    assert client.get("/health").json()["held_back"] == []


def test_a_rollback_to_a_version_that_was_loaded_counts_at_once(
    serve: Any, registry: Any, promote: Any, ask: Any, wait_for: Any
) -> None:
    client = serve()
    ask(client)
    promote(3)
    wait_for(lambda: ask(client).json()["model"] == "base:movies@3")
    registry.rollback("movies")
    client.get("/v1/models")
    assert ask(client).json()["model"] == "base:movies@1"


def test_a_challenger_that_does_not_load_turns_nobody_away(
    serve: Any, registry: Any, engine: Any, ask: Any, records: Any
) -> None:
    set_traffic(registry, "movies", canary(100))
    engine.unloadable = {"base:movies@2"}
    client = serve()
    assert [ask(client).json()["model"] for _ in range(3)] == ["base:movies@1"] * 3
    assert [body.model for body in engine.asked].count("base:movies@2") == 1
    assert [record.alias for record in records()] == ["champion"] * 3
