"""Fault 25: a model that can't be used is refused before anything is started."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from raytune_ft.data.base_model import check_base_model, is_path
from raytune_ft.errors import InputError


@pytest.fixture
def model(base_model: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(base_model, tmp_path / "model"))


@pytest.fixture
def check(experiment, tmp_path: Path):
    def run(model: Path | str, form: str = "messages", **others: object) -> None:
        data = {"train": tmp_path / "train.jsonl", "format": form}
        check_base_model(experiment(data, base_model=str(model), **others))

    return run


def test_a_whole_model_passes(check, model: Path) -> None:
    check(model)


def test_a_missing_directory_is_named(check, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^base_model: .*/nowhere: no such directory; give a directory or a hub id$"):
        check(tmp_path / "nowhere")


def test_missing_assets_say_how_to_get_them(check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"assets/smollm2: no such directory; run `raytune-ft assets fetch`$"):
        check("assets/smollm2")


def test_an_unreachable_hub_id_says_what_to_do(check) -> None:
    expected = r"^base_model: 'nobody/nothing' is neither a directory nor reachable on the hub .*; give a path, or run"
    with pytest.raises(InputError, match=expected) as caught:
        check("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_hub_model_in_the_local_cache_needs_no_network(
    check, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "0" * 40
    repository = tmp_path / "cache" / "models--someone--small"
    shutil.copytree(model, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    check("someone/small")


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["config.json"], "has no config.json"),
        (["tokenizer.json"], "has no tokenizer"),
        (["model.safetensors"], r"has no weights \(\*\.safetensors\)"),
        (["chat_template.jinja"], "has no chat template, which format messages needs"),
    ],
)
def test_a_missing_part_is_named(check, model: Path, files: list[str], what: str) -> None:
    for name in files:
        (model / name).unlink()
    with pytest.raises(InputError, match=what):
        check(model)


def test_prompt_and_completion_need_no_chat_template(check, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    check(model, "prompt_completion")


def test_pickled_weights_alone_are_refused(check, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"only pickled weights \(pytorch_model\.bin\); save .* safetensors"):
        check(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_needs_its_flag_and_is_logged(
    check, model: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps({**content, "auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(InputError, match=rf"its own Python code \(auto_map in {name}\); read that code"):
        check(model)
    with caplog.at_level(logging.WARNING):
        check(model, trust_remote_code=True)
    assert "will run on this machine" in caplog.text


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("method", ["full", "qlora"])
def test_weights_that_are_quantized_can_carry_adapters_and_not_move_themselves(
    check, model: Path, method: str, searched: bool
) -> None:
    content = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**content, "quantization_config": {"quant_method": "gptq"}}))
    check(model)
    space = {"parameters": {"method.type": {"choice": ["lora", method]}}}
    asked: dict[str, object] = {"search": {"space": space}} if searched else {"method": {"type": method}}
    with pytest.raises(
        InputError,
        match=rf"^method\.type: {method} can't train on .*, which is quantized; use method: {{type: lora}}, or",
    ):
        check(model, **asked)


def test_a_damaged_config_is_named(check, model: Path) -> None:
    (model / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        check(model)


@pytest.mark.parametrize("value", ["./a", "/a/b", "~/a", "assets/a", "a/b/c", "..", "a b/c"])
def test_these_name_directories(value: str) -> None:
    assert is_path(value)


@pytest.mark.parametrize("value", ["org/name", "gpt2", "Org-1/Name_2.5-b"])
def test_these_name_models_of_the_hub(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_path(value)
    (tmp_path / value).mkdir(parents=True)
    assert is_path(value)
