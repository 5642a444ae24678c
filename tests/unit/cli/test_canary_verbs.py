"""promote --from-canary, rollback, adapters, journal, canary and compare --live on a registry of a few bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.paths import sha256_file, write_json
from raytune_ft.registry.store import Registry
from raytune_ft.serving.records.records import RecordLog, RequestRecord

HOSTILE = ["../../etc", "/abs", "a:b", "..", "a" * 300, "movie\u0455", "linked"]
Command = Callable[..., Result]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Versions 1 to 3 of `movies` in ./registry, whose files are only as good as their sums."""
    monkeypatch.chdir(tmp_path)
    registry = Registry(tmp_path / "registry")
    for version in (1, 2, 3):
        directory = registry.root / "movies" / str(version)
        directory.mkdir(parents=True)
        (directory / "adapter_model.safetensors").write_bytes(bytes([version]))
        manifest = {
            "schema": 1, "adapter": "movies", "version": version, "base_model": "tiny", "base_sha256": "b",
            "lora_rank": 2, "data_fingerprint": "f", "form": "messages", "study": "quickstart", "trial": "0003",
            "metrics": {}, "created": "2026-01-01T00:00:00+00:00", "command": "a test",
            "files": {"adapter_model.safetensors": sha256_file(directory / "adapter_model.safetensors")},
        }  # fmt: skip
        write_json(directory / "manifest.json", manifest)
    return registry


@pytest.fixture
def canaried(registry: Registry) -> Registry:
    for alias, version in (("champion", 1), ("champion", 2), ("challenger", 3)):
        registry.set_alias("movies", alias, version)
    return registry


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def words(*arguments: object) -> str:
    return " ".join(run(*arguments).split())


def answer(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_a_canary_from_its_start_to_its_end(canaried: Registry) -> None:
    assert words("canary", "movies") == "movies: no canary; champion movies@2 answers all"
    assert words("canary", "movies", "--challenger", 10) == (
        "movies: challenger movies@3 answers 10 % of the requests, champion movies@2 the rest"
    )
    listed = {row["version"]: row for row in answer("adapters")}
    assert {version: (row["aliases"], row["traffic"]) for version, row in listed.items()} == {
        1: (["previous"], 0), 2: (["champion"], 90), 3: (["challenger"], 10),
    }  # fmt: skip
    assert words("promote", "--from-canary", "movies") == ("movies@3 is champion now, before it 2; the canary ended")
    assert answer("canary", "movies") == {
        "adapter": "movies", "aliases": {"champion": 3, "previous": 2}, "traffic": None,
    }  # fmt: skip
    assert words("rollback", "movies") == "movies@2 is champion again"
    done = [(move["action"], move["command"]) for move in answer("journal", "movies")]
    assert done[3:] == [
        ("traffic", "raytune-ft canary movies --challenger 10"),
        ("canary_end", "raytune-ft promote --from-canary movies"),
        ("rollback", "raytune-ft rollback movies"),
    ]


def test_a_shadow_asks_all_unless_told_how_much(canaried: Registry) -> None:
    rule = answer("canary", "movies", "--shadow")["traffic"]
    assert rule == {"schema": 1, "shares": {"champion": 0, "challenger": 100}, "by": "request", "shadow": True}
    assert words("canary", "movies", "--shadow", "--challenger", 25, "--sticky") == (
        "movies: champion movies@2 answers all; challenger movies@3 is asked besides for 25 % of the users"
    )
    assert [(row["traffic"], row["shadow"]) for row in answer("adapters")] == [(0, 0), (100, 0), (0, 25)]
    assert "25 % in the shadow" in words("adapters")
    assert words("canary", "movies", "--off") == "movies: no canary; champion movies@2 answers all"


def test_a_sticky_canary_says_so_in_the_list(canaried: Registry) -> None:
    assert answer("canary", "movies", "--challenger", 5, "--sticky")["traffic"]["by"] == "user"
    assert "5 % of users" in words("adapters") and "95 % of users" in words("adapters")


def test_the_journal_is_a_table_too(canaried: Registry) -> None:
    run("canary", "movies", "--challenger", 10)
    table = words("journal", "movies")
    for cell in ("alias", "champion", "quickstart", "0003", "traffic"):
        assert cell in table
    assert [move["action"] for move in answer("journal", "movies", "--last", 1)] == ["traffic"]
    assert len(answer("journal", "movies")) == 4


def test_the_journal_says_that_the_last_move_never_happened(canaried: Registry) -> None:
    write_json(canaried.root / "movies" / "aliases.json", {"champion": 2})
    assert "the last move was not carried out" in words("journal", "movies")


def test_rollback_takes_a_version(canaried: Registry) -> None:
    canaried.set_alias("movies", "champion", 3)
    assert words("rollback", "movies", "--to", 1) == "movies@1 is champion again"
    assert answer("journal", "movies", "--last", 1)[0]["command"] == "raytune-ft rollback movies --to 1"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["promote"], "no run given"),
        (["promote", "runs/x", "--from-canary", "movies"], "takes neither a RUN nor --as"),
        (["promote", "--as", "challenger", "--from-canary", "movies"], "takes neither a RUN nor --as"),
        (["promote", "runs/x", "--as", "previous"], "is kept by the registry itself"),
        (["promote", "runs/x", "--as", "../../etc"], "is not a valid name"),
        (["promote", "--from-canary", "movies"], "has no challenger"),
        (["canary", "movies", "--challenger", "10"], "has no challenger"),
        (["canary", "movies", "--shadow"], "has no challenger"),
        (["canary", "movies", "--off", "--shadow"], "goes with no other option"),
        (["canary", "movies", "--sticky"], "add --challenger PERCENT"),
        (["canary", "books", "--challenger", "10"], "no such adapter"),
        (["journal", "books"], "no such adapter"),
        (["compare", "runs/x"], "two runs are needed"),
        (["compare", "runs/x", "--live", "movies"], "compares versions, not runs"),
        (["compare", "--live", "movies", "--log-dir", "nowhere"], "no such log directory"),
        (["compare", "--live", "movies", "--log-dir", ".", "--since", "soon"], "is no time"),
    ],
)
def test_what_makes_no_sense_is_an_input_error_and_changes_nothing(
    registry: Registry, arguments: list[str], line: str
) -> None:
    registry.set_alias("movies", "champion", 1)
    before = sorted(registry.root.rglob("*"))
    with pytest.raises(InputError, match=line):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert sorted(registry.root.rglob("*")) == before and registry.aliases("movies") == {"champion": 1}


@pytest.mark.parametrize("percent", ["-1", "101", "ten", "9.5"])
def test_a_share_is_a_whole_percent(canaried: Registry, percent: str) -> None:
    assert CliRunner().invoke(app, ["canary", "movies", f"--challenger={percent}"]).exit_code == 2


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "arguments",
    [
        ["canary", "NAME"],
        ["canary", "NAME", "--challenger", "10"],
        ["canary", "NAME", "--off"],
        ["journal", "NAME"],
        ["rollback", "NAME"],
        ["rollback", "NAME", "--to", "1"],
        ["promote", "--from-canary", "NAME"],
        ["compare", "--live", "NAME", "--log-dir", "."],
    ],
)
def test_fault_26_no_verb_takes_a_hostile_name(
    canaried: Registry, tmp_path: Path, arguments: list[str], name: str
) -> None:
    (canaried.root / "linked").symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((InputError, IntegrityError)):
        CliRunner().invoke(app, [name if each == "NAME" else each for each in arguments], catch_exceptions=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_to_go_back_to_is_a_failure(registry: Registry) -> None:
    registry.set_alias("movies", "champion", 1)
    with pytest.raises(RaytuneError, match="nothing was changed"):
        CliRunner().invoke(app, ["rollback", "movies"], catch_exceptions=False)


def test_compare_live_reads_what_the_replicas_wrote(canaried: Registry, tmp_path: Path) -> None:
    logs = tmp_path / "serve_log"
    for replica, version, alias, count in (("a", 2, "champion", 9), ("b", 3, "challenger", 1)):
        log = RecordLog(logs, replica, prompts=False)
        for at in range(count):
            log.write(
                RequestRecord(
                    time=f"2026-01-01T00:00:{at:02d}.000+00:00",
                    request=f"{replica}{at}",
                    key=None,
                    route="chat",
                    asked="tiny:movies",
                    answered=f"tiny:movies@{version}",
                    alias=alias,
                    ttft_ms=12.0,
                    total_ms=80.0,
                    prompt_tokens=7,
                    completion_tokens=3,
                )
            )
    found = answer("compare", "--live", "movies")
    assert [(each["version"], each["by_name"]["share"]) for each in found["versions"]] == [
        (2, 0.9),
        (3, 0.1),
        (1, 0.0),
    ]
    table = run("compare", "--live", "movies", "--since", "2026-01-01T00:00:05")
    assert "@2 champion" in table and "@3 challenger" in table and "TTFT p50, p95 (ms)" in table
    assert "movies: no request since" in run("compare", "--live", "movies", "--since", "1h")


def test_the_page_on_the_registry_can_be_typed_from_top_to_bottom(registry: Registry, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/registry.md").read_text(encoding="utf-8")
    page = page.replace("movie-sentiment", "movies")
    (tmp_path / "serve_log").mkdir()
    for version in (1, 2, 3):
        registry.set_alias("movies", "champion", version)
    typed = [line.split()[1:] for line in page.splitlines() if line.startswith("    raytune-ft ")]
    for arguments in typed:
        if arguments == ["promote", "runs/quickstart", "--as", "challenger"]:  # needs an engine
            registry.set_alias("movies", "challenger", 3)
        else:
            run(*arguments)
    assert len(typed) >= 12 and registry.aliases("movies") == {"champion": 3, "previous": 1}
    exec(page.split("```python\n")[1].split("```")[0], {})
    last = json.loads((registry.root / "movies" / "traffic.json").read_text())
    assert (last["shares"], last["by"]) == ({"champion": 90, "challenger": 10}, "user")


def test_a_run_is_promoted_as_what_was_asked_for(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def promote(run: Path, **options: Any) -> None:
        asked.append({"run": run, **options})
        raise RaytuneError("that is enough")

    monkeypatch.setattr("raytune_ft.api.promote", promote)
    for options in ([], ["--as", "challenger"]):
        with pytest.raises(RaytuneError, match="that is enough"):
            CliRunner().invoke(app, ["promote", "runs/x", *options], catch_exceptions=False)
    assert [(each["run"], each["alias"]) for each in asked] == [
        (Path("runs/x"), "champion"), (Path("runs/x"), "challenger"),
    ]  # fmt: skip
