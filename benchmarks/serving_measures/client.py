"""Asks an endpoint as many clients at once would: aiohttp, which costs this machine less than the `openai` client."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import ClientSession

_TIMEOUT_S = 120.0
_DATA = b"data: "


@dataclass(frozen=True)
class Asked:
    """One request: the most likely answer, of exactly `max_tokens` tokens."""

    model: str
    prompt: str
    max_tokens: int
    stream: bool = False
    next_best: bool = False
    """Tell how far each token led the next best."""

    def body(self) -> dict[str, Any]:
        """As /v1/completions takes it."""
        shape = {"max_tokens": self.max_tokens, "ignore_eos": True, "temperature": 0.0}
        wanted = {"logprobs": 2} if self.next_best else {}
        return {"model": self.model, "prompt": self.prompt, "stream": self.stream, **shape, **wanted}


@dataclass(frozen=True)
class Heard:
    """How one request went.

    Attributes:
        asked: The request.
        failure: What went wrong, or "".
        model: Id that answered.
        text: What it said.
        started: Clock (`time.perf_counter`) when it was sent.
        first_s: Seconds to the first of the answer, where it was streamed.
        seconds: Seconds to the end of it.
        chunks: Events of a stream.
        lead: Least lead of a token over the next best one, in nats, where it was wanted.
    """

    asked: Asked
    failure: str
    model: str
    text: str
    started: float
    first_s: float
    seconds: float
    chunks: int = 0
    lead: float = math.inf


@asynccontextmanager
async def open_session() -> AsyncIterator[ClientSession]:
    """Connections that are kept, as many as are needed."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_TIMEOUT_S)) as session:
        yield session


async def ask(session: ClientSession, url: str, asked: Asked) -> Heard:
    """One request and its whole answer; a failure is returned, not raised."""
    import aiohttp

    started = time.perf_counter()
    first_s, pieces = 0.0, []
    try:
        async with session.post(f"{url}/completions", json=asked.body()) as reply:
            async for piece in reply.content.iter_any():
                first_s = first_s or time.perf_counter() - started
                pieces.append(piece)
            seconds, status = time.perf_counter() - started, reply.status
    except (aiohttp.ClientError, TimeoutError) as error:
        return Heard(asked, type(error).__name__, "", "", started, 0.0, time.perf_counter() - started)
    content = b"".join(pieces)
    failure, model, text, chunks = read_answer(status, content, asked.stream)
    lead = least_lead(content) if asked.next_best and not failure else math.inf
    return Heard(asked, failure, model, text, started, first_s, seconds, chunks, lead)


def read_answer(status: int, content: bytes, stream: bool) -> tuple[str, str, str, int]:
    """Failure or "", the model's id, the text, and how many events of a stream carried it."""
    if status != 200:
        return f"{status}: {content[:200].decode(errors='replace')}", "", "", 0
    if not stream:
        answer = json.loads(content)
        return "", answer["model"], answer["choices"][0]["text"], 0
    lines = [line.removeprefix(_DATA) for line in content.splitlines() if line.startswith(_DATA)]
    if not lines or lines[-1] != b"[DONE]":
        return "the stream broke off", "", "", len(lines)
    events = [json.loads(line) for line in lines[:-1]]
    if failed := [event for event in events if "error" in event]:
        return f"error in the stream: {str(failed[0]['error'])[:200]}", "", "", len(events)
    told = [event for event in events if event.get("choices")]
    text = "".join(event["choices"][0]["text"] or "" for event in told)
    return ("", told[0]["model"], text, len(told)) if told else ("an empty stream", "", "", 0)


def least_lead(content: bytes) -> float:
    """Nats by which the tokens of a whole answer led the next best ones, the least of all."""
    tops = json.loads(content)["choices"][0]["logprobs"]["top_logprobs"]
    ordered = [sorted(top.values(), reverse=True) for top in tops]
    return min((first - second for first, second, *_ in ordered), default=math.inf)


async def ask_all(url: str, requests: Iterable[Asked], at_once: int) -> tuple[list[Heard], float]:
    """All requests, in their order, `at_once` of them under way; what was heard, and the seconds of all together."""
    waiting = iter(requests)
    heard: list[Heard] = []
    async with open_session() as session:
        started = time.perf_counter()
        await asyncio.gather(*(_client(session, url, waiting, heard) for _ in range(at_once)))
        return heard, time.perf_counter() - started


async def _client(session: ClientSession, url: str, waiting: Iterator[Asked], heard: list[Heard]) -> None:
    for asked in waiting:
        heard.append(await ask(session, url, asked))


def until(deadline: Callable[[], bool], requests: Iterable[Asked]) -> Iterator[Asked]:
    """Requests until it is time to end."""
    for asked in requests:
        if deadline():
            return
        yield asked
