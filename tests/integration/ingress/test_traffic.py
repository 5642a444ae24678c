"""Several versions and engines behind one name: canary, shadow, moving aliases, and engines that die."""

from __future__ import annotations

import asyncio
from typing import Any

from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import canary, set_traffic


def test_a_canary_and_a_sticky_user(serve: Any, registry: Registry, ask: Any) -> None:
    client = serve()
    set_traffic(registry, "movies", canary(50, by="user"))
    client.get("/v1/models")  # looks at the registry anew
    seen = set()
    for number in range(12):
        for name in ("user", "safety_identifier"):
            models = {ask(client, **{name: f"u{number}"}).json()["model"] for _ in range(3)}
            assert len(models) == 1
            seen |= models
    assert seen == {"base:movies@1", "base:movies@2"}
    assert len({ask(client).json()["model"] for _ in range(8)}) == 1  # the key stands for a user that is not named


def test_the_shadow_is_asked_besides_and_recorded(
    serve: Any, registry: Registry, engine: Any, ask: Any, records: Any, wait_for: Any
) -> None:
    set_traffic(registry, "movies", canary(100, shadow=True))
    client = serve()
    assert "base:movies@1" in ask(client, stream=True, stream_options={"include_usage": True}).text
    (shadow,) = wait_for(lambda: records(shadow=True))
    assert (shadow.answered, shadow.alias, shadow.agrees, shadow.stream) == (
        "base:movies@2",
        "challenger",
        False,
        False,
    )
    assert (shadow.request, shadow.prompt_tokens, shadow.status) == ("r-1", 5, 200)
    assert [body.stream for body in engine.asked] == [True, False]
    (answered,) = records()
    assert answered.answered == "base:movies@1"


def test_a_shadow_that_fails_does_not_touch_the_answer(
    serve: Any, registry: Registry, engine: Any, ask: Any, records: Any, wait_for: Any
) -> None:
    set_traffic(registry, "movies", canary(100, shadow=True))
    client = serve()
    assert ask(client, stream=True).status_code == 200
    wait_for(lambda: records(shadow=True))
    engine.fails = lambda: ValueError("bad challenger")
    assert ask(client, stream=True).status_code == 200
    failed = wait_for(lambda: records(shadow=True)[1:])[0]
    assert (failed.status, failed.code, failed.agrees) == (500, "server_error", None)


def test_a_dead_engine_is_503_until_it_answers_again(
    serve: Any, engine: Any, ask: Any, records: Any, wait_for: Any
) -> None:
    client = serve()
    engine.fails, engine.well = lambda: engine.died("the actor at /secret/path died"), False
    broken = ask(client)
    assert (broken.status_code, broken.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "secret" not in broken.text and int(broken.headers["retry-after"]) > 0
    wait_for(lambda: len(engine.asked) < (ask(client), len(records()))[1])  # turned away unasked
    assert client.get("/health").status_code == 503
    engine.fails, engine.well = None, True
    wait_for(lambda: ask(client).status_code == 200)
    assert wait_for(lambda: client.get("/health").status_code == 200)
    assert {record.code for record in records()} == {"engine_unavailable", None}


def test_many_at_once_while_the_alias_moves(serve: Any, registry: Registry) -> None:
    """Fault 31 without the engine: each answer is one version's, whole, and in the end that of the alias."""
    client = serve()

    async def run() -> None:
        import httpx

        transport, ended = httpx.ASGITransport(app=client.app), asyncio.Event()
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=client.headers) as asking:

            async def one() -> str:
                body = {"model": "base:movies", "prompt": "x", "max_tokens": 8}
                answer = (await asking.post("/v1/completions", json=body)).json()
                assert answer["choices"][0]["text"] == f"I am {answer['model']}"
                return str(answer["model"])

            async def many() -> None:
                while not ended.is_set():
                    assert await one() in ("base:movies@1", "base:movies@2")
                    await asyncio.sleep(0.001)  # nothing in here waits by itself

            askers = [asyncio.create_task(many()) for _ in range(10)]
            for version in (2, 1, 2, 1):
                await asyncio.to_thread(registry.set_alias, "movies", "champion", version)
                async with asyncio.timeout(60):
                    while await one() != f"base:movies@{version}":
                        await asyncio.sleep(0.01)
            ended.set()
            await asyncio.gather(*askers)

    asyncio.run(run())


def test_a_merged_version_is_asked_of_its_own_engine(
    serve: Any, engine: Any, merged_engine: Any, ask: Any, records: Any
) -> None:
    client = serve(merged_engine)
    for model in ("base", "base:movies", "base:movies@challenger"):
        assert ask(client, model).status_code == 200
    assert [body.model for body in engine.asked] == ["base", "base:movies@1"]
    assert [body.model for body in merged_engine.asked] == ["base:movies@2"]
    assert merged_engine.options_given == [{"stream": True}], "it has no adapters to be routed by"
    assert [record.answered for record in records()] == ["base", "base:movies@1", "base:movies@2"]


def test_a_dead_engine_turns_only_its_own_requests_away(
    serve: Any, engine: Any, merged_engine: Any, ask: Any, wait_for: Any
) -> None:
    client = serve(merged_engine)
    assert client.get("/health").status_code == 200
    merged_engine.fails, merged_engine.well = lambda: merged_engine.died("gone"), False
    assert ask(client, "base:movies@2").status_code == 503
    wait_for(lambda: client.get("/health").status_code == 503)
    asked = len(merged_engine.asked)
    assert ask(client, "base:movies@2").status_code == 503
    assert len(merged_engine.asked) == asked, "an engine that is down is not waited for"
    assert ask(client, "base:movies").status_code == ask(client, "base").status_code == 200


def test_a_merged_version_without_an_engine_is_told_to_be_one(serve: Any, merged_engine: Any, ask: Any) -> None:
    answer = ask(serve(), "base:movies@challenger")
    assert answer.status_code == 404
    assert "is a model of its own without an engine here" in answer.json()["error"]["message"]
