from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from raytune_ft.errors import InputError
from raytune_ft.reporting.live_requests import LiveComparison, compare_live, parse_since, rate
from raytune_ft.reporting.terminal.live_requests_view import live_view
from raytune_ft.serving.records.records import RequestRecord

ALIASES = {"champion": 3, "challenger": 4, "previous": 2}


def record(version: int | None, at: int = 0, **changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "time": f"2026-01-01T00:{at // 60:02d}:{at % 60:02d}.000+00:00", "request": f"r{at}", "key": None,
        "route": "completions", "asked": "tiny:movies", "answered": f"tiny:movies@{version}" if version else None,
        "alias": {3: "champion", 4: "challenger"}.get(version or 0), "status": 200, "prompt_tokens": 10,
        "completion_tokens": 2, "ttft_ms": 20.0, "total_ms": 100.0,
    }  # fmt: skip
    return RequestRecord(**{**values, **changes})


def shown(found: LiveComparison) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(live_view(found))
    return capture.get()


def test_each_versions_requests_share_and_times_are_counted() -> None:
    old = [record(3, at, ttft_ms=at + 1.0, total_ms=100.0 + at) for at in range(90)]
    new = [record(4, 100 + at, ttft_ms=10.0 * (at + 1), completion_tokens=5) for at in range(10)]
    mixed = [*old, *new]
    random.Random(0).shuffle(mixed)
    found = compare_live(mixed, "movies", ALIASES)
    champion, challenger, previous = found.versions
    assert [version.version for version in found.versions] == [3, 4, 2]
    assert (champion.aliases, challenger.aliases) == (("champion",), ("challenger",))
    assert (champion.answered.requests, challenger.answered.requests, previous.answered.requests) == (90, 10, 0)
    assert (champion.by_name.share, challenger.by_name.share) == (0.9, 0.1)
    assert (champion.answered.ttft.p50_ms, champion.answered.ttft.p95_ms) == (45.0, 86.0)
    assert (challenger.answered.ttft.p50_ms, challenger.answered.ttft.p95_ms) == (50.0, 100.0)
    assert champion.answered.total.p95_ms == 185.0
    assert (challenger.answered.prompt_tokens, challenger.answered.completion_tokens) == (100, 50)
    assert (found.first, found.last) == (old[0].time, new[-1].time)


def test_errors_are_the_endpoints_and_refusals_the_clients() -> None:
    found = compare_live(
        [record(3, 0), record(3, 1, status=500), record(3, 2, status=503), record(3, 3, status=400, ttft_ms=None)],
        "movies",
        ALIASES,
    )
    asked = found.versions[0].answered
    assert (asked.errors.count, asked.errors.share, asked.refused) == (2, 0.5, 1)
    assert asked.total.p50_ms == 100.0


def test_failed_requests_do_not_make_a_version_look_fast() -> None:
    found = compare_live([record(3, 0), *(record(3, at, status=500, total_ms=1.0) for at in range(1, 9))], "movies", {})
    assert found.versions[0].answered.total.p50_ms == 100.0


def test_the_shadow_is_counted_apart_with_its_agreement() -> None:
    shadows = [record(4, at, shadow=True, agrees=at < 6, total_ms=500.0) for at in range(8)]
    failed = record(4, 9, shadow=True, agrees=None, status=500)
    found = compare_live([record(3, 0), *shadows, failed], "movies", ALIASES)
    champion, challenger = found.versions[:2]
    assert (challenger.answered.requests, challenger.shadow.requests) == (0, 9)
    assert (challenger.shadow.agrees.count, challenger.shadow.agrees.of) == (6, 8)
    assert (champion.by_name.share, challenger.by_name.share) == (1.0, 0.0)
    assert challenger.shadow.errors.count == 1 and champion.shadow.agrees.share is None
    text = shown(found)
    assert "75.0 %" in text and "same text as the champion" in text


def test_the_share_is_of_requests_to_the_plain_name_only() -> None:
    by_number = [record(4, at, asked="tiny:movies@4", alias=None) for at in range(5)]
    by_alias = [record(4, at, asked="tiny:movies@challenger") for at in range(5)]
    found = compare_live([record(3, 0), record(3, 1), record(4, 2), *by_number, *by_alias], "movies", ALIASES)
    assert [version.by_name.count for version in found.versions] == [2, 1, 0]
    assert found.versions[1].answered.requests == 11


def test_other_adapters_and_the_base_are_left_out_and_who_got_no_version_is_said() -> None:
    others = [
        record(3, 1, asked="tiny:movies2", answered="tiny:movies2@3"),
        record(3, 2, asked="tiny", answered="tiny", alias=None),
        record(None, 3, asked="tiny:books", status=404),
        record(None, 4, asked="tiny:movies@77", status=404),
        record(None, 5, asked="", status=400),
    ]
    found = compare_live([record(3), *others], "movies", ALIASES)
    assert (found.versions[0].answered.requests, found.unanswered) == (1, 1)
    assert "1 requests ended before a version was chosen" in shown(found)


def test_a_version_that_no_alias_names_any_more_comes_last() -> None:
    found = compare_live([record(1), record(7), record(3)], "movies", {"champion": 3})
    assert [version.version for version in found.versions] == [3, 1, 7]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ((0, 500), (20, 100), "the challenger fails more often: the intervals are apart"),
        ((100, 500), (0, 100), "the challenger fails less often: the intervals are apart"),
        ((2, 500), (1, 20), "errors: the intervals overlap, so no difference is shown"),
        ((0, 500), (0, 0), "one of the two has no requests yet: nothing to compare"),
    ],
)
def test_the_verdict_is_one_that_the_numbers_carry(old: tuple[int, int], new: tuple[int, int], said: str) -> None:
    records = [
        record(version, at, status=500 if at < failed else 200)
        for version, (failed, total) in ((3, old), (4, new))
        for at in range(total)
    ]
    assert said in shown(compare_live(records, "movies", ALIASES))


def test_where_nobody_asked_that_is_said() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert shown(compare_live([], "movies", ALIASES, start)).strip() == (
        "movies: no request since 2026-01-01T00:00:00+00:00"
    )


def test_wilsons_interval_is_that_of_the_literature() -> None:
    found = rate(15, 148)  # Newcombe 1998, table I: 0.0624 to 0.1605
    assert (round(found.low, 4), round(found.high, 4)) == (0.0624, 0.1605)
    none = rate(0, 20)  # ibidem: 0.0000 to 0.1611
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)
    assert (rate(0, 0).share, rate(0, 0).low, rate(0, 0).high) == (None, 0.0, 1.0)


def test_since_is_an_age_or_a_time() -> None:
    now = datetime(2026, 1, 2, 12, tzinfo=UTC)
    for text, back in (("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172800)):
        assert parse_since(text, now) == now - timedelta(seconds=back)
    assert parse_since("2026-01-01T12:00") == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert parse_since("2026-01-01T12:00+02:00") == datetime(2026, 1, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "h", "-1h", "1w", "1.5h", "soon", "1h30m", "٣h", "9999999d"])
def test_any_other_since_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="--since"):
        parse_since(text)
