"""What an endpoint's access log says of each version of an adapter: traffic, errors, latency, and the shadow."""

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
    """A share of requests, with Wilson's interval: honest also for few requests and for none of them."""

    count: int
    of: int
    share: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Of a time in milliseconds; None without a measurement."""

    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class Asked:
    """One version's requests, those that clients saw or those in the shadow.

    Attributes:
        requests: All of them.
        errors: Those that the endpoint failed: status 500 and above.
        refused: Those that were the client's doing, also by going away: status 400 to 499.
        ttft: Time to the first token, of the answered ones.
        total: Time to the end, of the answered ones.
        prompt_tokens: Together.
        completion_tokens: Together.
        agrees: Shadow only: answers that were the champion's text, of those that were compared.
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
    """One version: what it answered, and what it was asked besides.

    Attributes:
        version: The number of the version.
        aliases: That point to it now.
        by_name: How many of the requests to the adapter's plain name it answered; what a canary splits.
        answered: Requests whose answer a client got.
        shadow: Requests that it was asked besides.
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
        since: The oldest request that was looked for; None for all.
        first: Time of the oldest that was found.
        last: Time of the newest.
        unanswered: Requests that named the adapter and ended before a version was chosen.
        versions: Those with an alias or a request.
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
        since: What the records were cut at, to be said.
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
    """The time that `90s`, `30m`, `1h`, `2d` ago means, or an ISO 8601 time, UTC where it names no zone.

    Raises:
        InputError: It is neither.
    """
    if found := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return (now or datetime.now(UTC)) - timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError("--since", f"{text[:40]!a} is no time", "write 30m, 1h, 2d or 2026-01-31T12:00") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def rate(count: int, of: int) -> Rate:
    """`count` of `of`, with Wilson's 95 % interval."""
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
    """Adapter and version that a model id names."""
    _, marked, reference = (model or "").partition(":")
    adapter, _, version = reference.partition("@")
    return (adapter if marked else None), int(version) if version.isascii() and version.isdecimal() else None


def _by_name(record: RequestRecord) -> bool:
    return not record.shadow and "@" not in record.asked.partition(":")[2]


def _ordered(aliases: dict[str, int]) -> list[int]:
    """Versions with an alias: the champion's, the challenger's, then the others'."""
    first = [aliases[alias] for alias in ("champion", "challenger", "previous") if alias in aliases]
    return list(dict.fromkeys([*first, *aliases.values()]))
