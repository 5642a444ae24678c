"""Compares an adapter's versions by an endpoint's access log: traffic, errors, latency and shadow requests."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from raytune_ft.errors import InputError
from raytune_ft.serving.records.records import RequestRecord

_Z95 = 1.959964
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Rate:
    """A share of requests, with Wilson's 95 % interval, which holds also for few requests and for a share of 0.

    Attributes:
        count: How many requests count.
        of: How many requests there are.
        share: `count / of`; None without requests.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    count: int
    of: int
    share: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Median and 95th percentile of a time in milliseconds; None without a measurement."""

    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class Asked:
    """One version's requests: either those that clients got answers to, or its shadow requests.

    Attributes:
        requests: How many requests there were.
        errors: The requests that the endpoint failed: status 500 and above.
        refused: How many failed because of the client, also if it disconnected: status 400 to 499.
        ttft: Time to the first token (TTFT) of the answered requests.
        total: Time to the last token of the answered requests.
        prompt_tokens: Prompt tokens of all requests together.
        completion_tokens: Completion tokens of all requests together.
        agrees: For shadow requests: the compared answers that were the same text as the champion's.
    """

    requests: int
    errors: Rate
    refused: int
    ttft: Spread
    total: Spread
    prompt_tokens: int
    completion_tokens: int
    agrees: Rate


@dataclass(frozen=True)
class VersionTraffic:
    """The traffic of one version.

    Attributes:
        version: The number of the version.
        aliases: The aliases that point to it now.
        by_name: How many of the requests to the adapter's plain name it answered; a canary splits these.
        answered: The requests whose answer a client got.
        shadow: The shadow requests: copies whose answers no client got.
    """

    version: int
    aliases: tuple[str, ...]
    by_name: Rate
    answered: Asked
    shadow: Asked


@dataclass(frozen=True)
class LiveComparison:
    """An adapter's versions side by side, the champion first.

    Attributes:
        adapter: The adapter's name.
        since: The time from which on requests count; None for all.
        first: Time of the oldest request that was found; None without any.
        last: Time of the newest.
        unanswered: How many requests named the adapter and ended before a version was chosen.
        versions: The versions with an alias or a request.
    """

    adapter: str
    since: str | None
    first: str | None
    last: str | None
    unanswered: int
    versions: tuple[VersionTraffic, ...]


def compare_live(
    records: Iterable[RequestRecord], adapter: str, aliases: dict[str, int], since: datetime | None = None
) -> LiveComparison:
    """Counts the requests to each version.

    Args:
        records: The access log of one endpoint, with the requests to all adapters.
        adapter: The adapter whose versions are counted.
        aliases: Alias -> version, as they are now.
        since: The time that the records begin at, for the result's `since`.
    """
    seen: dict[int, list[RequestRecord]] = {version: [] for version in aliases.values()}
    times: list[str] = []
    by_name = unanswered = 0
    for record in records:
        name, version = _reference(record.answered)
        if name != adapter and (record.answered is not None or _reference(record.asked)[0] != adapter):
            continue
        times.append(record.time)
        if version is None:
            unanswered += 1
            continue
        seen.setdefault(version, []).append(record)
        by_name += _by_name(record)
    order = {version: place for place, version in enumerate(_ordered(aliases))}
    return LiveComparison(
        adapter=adapter,
        since=since.isoformat(timespec="seconds") if since else None,
        first=min(times, default=None),
        last=max(times, default=None),
        unanswered=unanswered,
        versions=tuple(
            VersionTraffic(
                version=version,
                aliases=tuple(sorted(alias for alias, number in aliases.items() if number == version)),
                by_name=rate(sum(map(_by_name, found)), by_name),
                answered=_asked([record for record in found if not record.shadow]),
                shadow=_asked([record for record in found if record.shadow]),
            )
            for version, found in sorted(seen.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
        ),
    )


def parse_since(text: str, now: datetime | None = None) -> datetime:
    """Returns the time that `text` means: `90s`, `30m`, `1h` or `2d` ago, or an ISO 8601 time (UTC without a zone).

    Raises:
        InputError: The text is neither.
    """
    if found := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return (now or datetime.now(UTC)) - timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("--since", f"{text[:40]!a} is no time", "write 30m, 1h, 2d or 2026-01-31T12:00") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def rate(count: int, of: int) -> Rate:
    """Returns the share `count / of` with Wilson's 95 % interval."""
    if not of:
        return Rate(count, of, None, 0.0, 1.0)
    share, square = count / of, _Z95**2
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = _Z95 / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of**2))
    return Rate(count, of, share, max(0.0, middle - half), min(1.0, middle + half))


def _asked(records: Sequence[RequestRecord]) -> Asked:
    answered = [record for record in records if record.status < 400]
    compared = [record for record in records if record.agrees is not None]
    return Asked(
        requests=len(records),
        errors=rate(sum(record.status >= 500 for record in records), len(records)),
        refused=sum(400 <= record.status < 500 for record in records),
        ttft=_spread([record.ttft_ms for record in answered]),
        total=_spread([record.total_ms for record in answered]),
        prompt_tokens=sum(record.prompt_tokens or 0 for record in records),
        completion_tokens=sum(record.completion_tokens or 0 for record in records),
        agrees=rate(sum(bool(record.agrees) for record in compared), len(compared)),
    )


def _spread(values: Iterable[float | None]) -> Spread:
    known = sorted(value for value in values if value is not None)
    return Spread(*(known[math.ceil(part * len(known)) - 1] if known else None for part in (0.5, 0.95)))


def _reference(model: str | None) -> tuple[str | None, int | None]:
    """Returns the adapter and the version that a model id names; None for what it does not name."""
    _, marked, reference = (model or "").partition(":")
    adapter, _, version = reference.partition("@")
    return (adapter if marked else None), int(version) if version.isascii() and version.isdecimal() else None


def _by_name(record: RequestRecord) -> bool:
    return not record.shadow and "@" not in record.asked.partition(":")[2]


def _ordered(aliases: dict[str, int]) -> list[int]:
    """Returns the versions with an alias: first the champion's and the challenger's, then the others'."""
    first = [aliases[alias] for alias in ("champion", "challenger", "previous") if alias in aliases]
    return list(dict.fromkeys([*first, *aliases.values()]))
