"""Each file of search_spaces/ is one that `check` takes, and says where its ranges come from."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from raytune_ft.config.methods.low_rank import MAX_SERVED_LORA_RANK
from raytune_ft.config.search.portfolio import read_portfolio

ROOT = Path(__file__).parents[4]
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
PORTFOLIOS = sorted((ROOT / "search_spaces/portfolios").glob("*.yaml"))


def name(path: Path) -> str:
    return path.stem


def test_there_is_a_space_for_every_size_and_a_portfolio() -> None:
    sizes = ("small", "1b_4b", "7b_8b", "13b_70b")
    assert {f"{method}_sft_{size}" for method in ("lora", "full") for size in sizes} <= {path.stem for path in SPACES}
    assert {path.stem for path in PORTFOLIOS} <= {path.stem for path in SPACES} and PORTFOLIOS


@pytest.mark.parametrize("path", SPACES, ids=name)
def test_a_shipped_space_loads_begins_somewhere_and_can_be_served(load, settings_of_space, path: Path) -> None:
    method = path.stem.split("_")[0]
    changes = [("space: space.yaml", f"space: {path}"), ("method: {type: lora, r: 8}", f"method: {{type: {method}}}")]
    space = load(*changes, overrides=settings_of_space(path)).search.space
    assert space.start_from and all(set(start) == set(space.parameters) for start in space.start_from)
    ranks = space.parameters["method.r"].extremes() if method == "lora" else [0]
    assert max(ranks) <= MAX_SERVED_LORA_RANK


@pytest.mark.parametrize("path", SPACES, ids=name)
def test_a_shipped_space_says_where_its_ranges_come_from(path: Path) -> None:
    comment = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert path.read_text().startswith("#") and re.search(r"\b20[12]\d\b", comment), "name a source and its year"
    assert "LoRA Without Regret" in comment or "_sft_" not in path.stem


@pytest.mark.parametrize("path", SPACES, ids=name)
def test_a_shipped_space_is_found_from_any_directory(load, settings_of_space, path: Path) -> None:
    found = load(("space: space.yaml", f"space: search_spaces/{path.name}"), overrides=settings_of_space(path))
    assert found.search.space.start_from


def test_the_quoted_first_choices_for_7b_and_8b_models_are_tried_first_as_batches_of_8_and_32(load) -> None:
    space = load(("space: space.yaml", "space: search_spaces/lora_sft_7b_8b.yaml")).search.space
    batch, steps = "train.per_device_train_batch_size", "train.gradient_accumulation_steps"
    told = [
        (start["train.learning_rate"], start[batch] * start[steps], start["method.alpha"], start["method.r"])
        for start in space.start_from[:2]
    ]
    assert told == [(5e-5, 8, 32, 128), (5e-5, 32, 128, 128)]


@pytest.mark.parametrize("path", PORTFOLIOS, ids=name)
def test_a_shipped_portfolio_names_its_studies_and_can_be_taken_from_any_directory(load, path: Path) -> None:
    portfolio = read_portfolio(path)
    assert portfolio.studies and all(study.fingerprint for study in portfolio.studies)
    assert len(portfolio.configurations) >= 4
    algorithm = f"algorithm: {{type: portfolio, file: search_spaces/portfolios/{path.name}}}"
    search = load(("algorithm: {type: tpe, seed: 0}", algorithm)).search
    assert search.algorithm.configurations == [entry.parameters for entry in portfolio.configurations]


def test_an_installed_package_finds_them_too(tmp_path: Path) -> None:
    """From the wheel alone, in a directory without search_spaces/."""
    from hatchling.builders.wheel import WheelBuilder

    with zipfile.ZipFile(next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))) as wheel:
        wheel.extractall(tmp_path / "site")
    names = [f"search_spaces/{path.relative_to(ROOT / 'search_spaces')}" for path in SPACES + PORTFOLIOS]
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        f"from raytune_ft.config.files.shipped import find\nfor name in {names!r}: print(find(name))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = [Path(line) for line in done.stdout.splitlines()]
    assert len(found) == len(names)
    assert all(path.is_file() and path.is_relative_to(tmp_path / "site") for path in found)
