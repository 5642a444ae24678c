"""The Serve application as far as it can be built without a cluster, and the config file in Ray's own parser."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from raytune_ft.data.prepared import MANIFEST, TEST_ROWS
from raytune_ft.data.rows import Conversation, Message
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory
from raytune_ft.registry.store import Registry
from raytune_ft.serving.app import build_app, engine_settings
from raytune_ft.serving.local.ask import Answer, split_row
from raytune_ft.serving.local.demo import ask_both, pick_rows
from raytune_ft.serving.local.foreground import how_to_ask, read_questions
from raytune_ft.serving.local.session import Endpoint, cause, reachable
from raytune_ft.serving.models.catalog import build_catalog
from raytune_ft.serving.settings import API_KEY_VARIABLE, is_loopback, parse_serve_args

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "serve").glob("*.yaml")), ids=lambda path: path.name)
def test_serve_config_files_are_what_serve_run_takes(path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    assert is_loopback(schema.http_options.host)
    for application in schema.applications:
        module, _, name = application.import_path.partition(":")
        assert getattr(importlib.import_module(module), name) is build_app
        assert is_loopback(parse_serve_args(application.args).host)


def test_the_app_refuses_to_be_built_for_others_without_a_key(
    write_base: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    with pytest.raises(InputError, match="no API key is set"):
        build_app({"base_model": str(write_base()), "registry": None, "host": "0.0.0.0"})


def test_the_verb_serve_refuses_bad_input_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raytune_ft.cli.app import app

    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    for arguments, reason in (
        (["--registry", str(tmp_path / "none")], "has no champion to serve"),
        (["--base-model", str(tmp_path / "none")], "is not a model directory"),
        (["--base-model", "x", "--host", "0.0.0.0"], "no API key is set"),
        (["--base-model", "x", "--ask", "@none.jsonl"], "is missing"),
        (["--base-model", "x", "--max-model-len", "1"], "max_model_len"),
    ):
        result = CliRunner().invoke(app, ["serve", *arguments])
        assert isinstance(result.exception, InputError), arguments
        assert reason in str(result.exception)


def test_a_row_is_split_into_question_and_true_answer() -> None:
    user, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    assert split_row("text") == ("text", None)
    assert split_row({"prompt": "p", "completion": " c"}) == ("p", " c")
    assert split_row({"messages": [user, answer]}) == ([user], "b")
    assert split_row({"messages": [user]}) == ([user], None)
    assert split_row([user]) == split_row({"prompt": [user], "chosen": [answer]}) == ([user], None)
    with pytest.raises(InputError):
        split_row({"text": "x"})


def test_questions_are_a_prompt_or_the_rows_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n\n{"messages": []}\n')
    assert read_questions("hello") == ["hello"]
    assert read_questions(f"@{path}") == [{"prompt": "a"}, {"messages": []}]
    path.write_text('{"prompt": "a"}\n{"promt": "b"}\n')
    with pytest.raises(InputError, match=r"rows\.jsonl:2"):
        read_questions(f"@{path}")


def test_rows_that_tell_base_and_winner_apart_come_first(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.data.mkdir()
    rows = [{"prompt": name, "completion": " yes"} for name in "abcd"]
    (run.data / TEST_ROWS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = {
        "schema": 1, "fingerprint": "f", "form": "prompt_completion", "template_sha256": None, "files": {},
        "splits": {"test": {"rows": 4}}, "duplicates": {}, "warnings": [],
    }  # fmt: skip
    (run.data / MANIFEST).write_text(json.dumps(manifest))
    assert [row.question for row in pick_rows(run, 2)] == ["a", "b"]
    examples = [
        {"row": 1, "prompt": "b", "expected": " yes", "base": " yes", "winner": " yes"},
        {"row": 2, "prompt": "c", "expected": " yes", "base": " no", "winner": " yes"},
        {"row": 3, "prompt": "d", "expected": " yes", "base": " yes", "winner": " no"},
    ]
    run.evaluation.write_text(json.dumps({"examples": examples}))
    assert [row.question for row in pick_rows(run, 3)] == ["c", "a", "b"]


def test_base_and_champion_are_asked_the_question_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object]] = []

    def answer(endpoint: Endpoint, model: str, row: object, form: str, *, max_tokens: int) -> Answer:
        asked.append((model, row))
        return Answer(model, " yes", 0.1)

    monkeypatch.setattr("raytune_ft.serving.local.demo.ask", answer)
    question = (Message("user", "q"),)
    rows = [Conversation((*question, Message("assistant", "a")), 1)]
    said: list[str] = []
    shown = ask_both(Endpoint("http://x/v1", ["base"], None), "movies", "messages", rows, said.append)
    assert [(each.asked, each.expected, each.champion.model) for each in shown] == [("q", "a", "base:movies")]
    assert asked == [(model, [question[0].as_json()]) for model in ("base", "base:movies")] * 2
    assert "held-out row (chat): 'q'" in said


def test_a_host_is_written_as_a_client_reaches_it() -> None:
    hosts = ["127.0.0.1", "0.0.0.0", "::", "::1", "localhost", "10.0.0.1"]
    assert [reachable(host) for host in hosts] == [
        "127.0.0.1", "127.0.0.1", "[::1]", "[::1]", "localhost", "10.0.0.1",
    ]  # fmt: skip


def test_how_to_ask_never_shows_the_key() -> None:
    lines = "\n".join(how_to_ask(Endpoint("http://127.0.0.1:8000/v1", ["base", "base:movies"], "a-good-long-key")))
    assert "a-good-long-key" not in lines + repr(Endpoint("u", [], "a-good-long-key"))
    assert "$RAYTUNE_FT_API_KEY" in lines
    assert '"base:movies"' in lines


def test_the_engine_gets_the_settings_of_the_endpoint(
    write_base: Callable[..., Path], add: Callable[..., Registry]
) -> None:
    base = write_base()
    registry = add(base, rank=17, champion=True)
    args = parse_serve_args({"base_model": str(base), "registry": str(registry.root), "dtype": "bfloat16"})
    on_cpu = engine_settings(args, build_catalog(args), gpus=0)
    assert (on_cpu["engine_kwargs"]["max_lora_rank"], on_cpu["engine_kwargs"]["dtype"]) == (64, "bfloat16")
    assert on_cpu["engine_kwargs"]["enforce_eager"] is True
    assert on_cpu["placement_group_config"] == {"bundles": [{"CPU": 1}]}
    assert on_cpu["runtime_env"]["env_vars"]["VLLM_CPU_KVCACHE_SPACE"] == "1"
    on_gpus = engine_settings(args, build_catalog(args), gpus=2)
    assert on_gpus["placement_group_config"] == {"bundles": [{"GPU": 1}] * 2}
    assert on_gpus["engine_kwargs"]["tensor_parallel_size"] == 2
    assert on_gpus["engine_kwargs"]["enforce_eager"] is False


def test_replicas_router_and_memory_reach_serve_and_the_engine(write_base: Callable[..., Path]) -> None:
    def settings(**changes: object) -> tuple[dict[str, Any], dict[str, Any]]:
        args = parse_serve_args({"base_model": str(write_base()), "registry": None, **changes})
        found = engine_settings(args, build_catalog(args), gpus=1)
        return found["engine_kwargs"], found["deployment_config"]

    engine, one = settings()
    assert not {"gpu_memory_utilization", "max_num_seqs"} & engine.keys(), "vLLM's own defaults"
    assert one["num_replicas"] == 1 and not {"max_ongoing_requests", "request_router_config"} & one.keys()
    engine, several = settings(replicas=3, router="prefix", gpu_memory_utilization=0.8, max_num_seqs=64)
    assert (engine["gpu_memory_utilization"], engine["max_num_seqs"]) == (0.8, 64)
    assert (several["num_replicas"], several["max_ongoing_requests"]) == (3, 64)
    assert several["request_router_config"]["request_router_class"].endswith(".AdapterPrefixRouter")
    _, scaled = settings(autoscaling={"max_replicas": 4, "target_ongoing_requests": 8}, max_surge_percent=50)
    assert scaled["autoscaling_config"]["target_ongoing_requests"] == 8 and "num_replicas" not in scaled
    assert (scaled["max_ongoing_requests"], scaled["max_surge_percent"]) == (256, 50)
    for wrong in ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, {"router": "random"}, {"replicas": 0}):
        with pytest.raises(InputError):
            settings(**wrong)


def test_the_cause_of_a_failed_start_is_one_line() -> None:
    message = """Deployment failed: traceback
  File "x.py", line 1, in start
    raise RuntimeError("first")
RuntimeError: first

builtins.ValueError: max_model_len (100000) is greater
  than the model's
"""
    assert cause(message) == "builtins.ValueError: max_model_len (100000) is greater than the model's"
    assert (cause("out of\nCPUs"), cause("")) == ("out of CPUs", "no reason given")
