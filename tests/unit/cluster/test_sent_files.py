"""Which files go along for what is named: links, results, pipes, and what a job would lack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raytune_ft.cluster.paths_on_cluster import Named
from raytune_ft.cluster.upload import Upload, choose
from raytune_ft.errors import InputError


@pytest.fixture
def work(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    _write(root / "x.yaml", "name: x")
    _write(root / "added/rows.txt")
    _write(root / "runs/one/results.json")
    _write(root / ".private/notes.txt")
    _write(tmp_path / "outside/notes.txt")
    return root


def _write(path: Path, text: str = "some text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


def _added(work: Path, *also: str) -> Upload:
    return choose(work, Path("x.yaml"), (), [Path(each) for each in also])


def _model(work: Path, path: str) -> Upload:
    return choose(work, Path("x.yaml"), [Named("base_model", Path(path))])


@pytest.mark.parametrize("to", ["../outside", "runs", "runs/one", ".private", ".", "runs/one/results.json"])
def test_a_link_that_leads_to_what_is_not_sent_is_not_added(work: Path, to: str) -> None:
    _link(work / "link", work / to)
    with pytest.raises(InputError, match=r"^--also: link is"):
        _added(work, "link")


@pytest.mark.parametrize(
    "name", ["added/.hidden", "added/.hidden/x", "added/runs/x", "added/wandb", "added/wandb/x", "added/../runs/one"]
)
def test_neither_results_nor_hidden_files_are_added_from_further_down(work: Path, name: str) -> None:
    _write(work / name / "y" if not name.endswith("/x") else work / name)
    with pytest.raises(InputError, match=r"^--also: .* never sent"):
        _added(work, name)


@pytest.mark.parametrize("to", ["../outside/notes.txt", ".private/notes.txt", "runs/one/results.json"])
def test_a_linked_file_that_leads_to_what_is_not_sent_is_refused(work: Path, to: str) -> None:
    _link(work / "added/link.txt", work / to)
    with pytest.raises(InputError, match=r"^added/link.txt: leads to /.*leave it out of --also$"):
        _added(work, "added")


def test_a_linked_file_that_leads_to_what_may_be_sent_is_sent_under_its_name(work: Path, tmp_path: Path) -> None:
    _write(work / "data/rows.jsonl", "linked")
    _link(work / "added/link.txt", Path("../data/rows.jsonl"))
    _link(work / "short", Path("added"))
    upload = _added(work, "short", str(work / "added/rows.txt"))
    assert [str(file) for file in upload.files] == ["x.yaml", "short/link.txt", "short/rows.txt", "added/rows.txt"]
    upload.copy_to(tmp_path / "staged")
    assert (tmp_path / "staged/short/link.txt").read_text() == "linked"


def test_results_and_hidden_folders_inside_of_a_model_stay_here_and_are_named(work: Path) -> None:
    for name in ("config.json", "runs/events", ".cache/x", "assets/x.txt", "__pycache__/x.pyc"):
        _write(work / "model" / name)
    part = _model(work, "model").parts[1]
    assert [str(file) for file in part.files] == ["model/config.json", "model/assets/x.txt"]
    assert "(2 files, without model/.cache, model/runs)" in str(part)


def test_a_model_of_a_hub_cache_inside_the_working_directory_is_sent(work: Path) -> None:
    _write(work / "hub/models--a--b/blobs/0123", "{}")
    _link(work / "hub/models--a--b/snapshots/1/config.json", Path("../../blobs/0123"))
    assert str(_model(work, "hub/models--a--b/snapshots/1").files[1]).endswith("snapshots/1/config.json")


def test_a_model_of_links_to_a_hub_cache_elsewhere_is_refused_with_the_setting(work: Path, tmp_path: Path) -> None:
    _link(work / "model/config.json", _write(tmp_path / "hub/blobs/0123", "{}"))
    with pytest.raises(InputError, match=r"^model/config.json: leads to .*/0123, .*--set base_model=/shared/"):
        _model(work, "model")


def test_a_linked_folder_inside_of_a_model_is_refused(work: Path) -> None:
    _write(work / "model/config.json")
    _link(work / "model/more", work / "added")
    with pytest.raises(InputError, match=r"^model/more: is a link to a folder.*--set base_model=/shared/"):
        _model(work, "model")


@pytest.mark.parametrize("inside", ["", ".hidden", "folder", "runs"])
def test_a_model_without_a_file_to_send_is_refused(work: Path, inside: str) -> None:
    (work / "model" / inside).mkdir(parents=True)
    _write(work / "model/.gitkeep")
    with pytest.raises(InputError, match=r"^model: holds no file that would be sent \(base_model\)"):
        _model(work, "model")


@pytest.mark.parametrize("also", ["added", "added/pipe"])
def test_a_pipe_is_refused_and_not_waited_for(work: Path, also: str) -> None:
    os.mkfifo(work / "added/pipe")
    with pytest.raises(InputError, match=r"^added/pipe: is no regular file"):
        _added(work, also)


def test_a_link_to_nothing_is_refused(work: Path) -> None:
    _link(work / "added/gone.txt", Path("nowhere"))
    _link(work / "loop/itself", Path("itself"))
    with pytest.raises(InputError, match=r"^added/gone.txt: can't be read \(No such file or directory\); remove it"):
        _added(work, "added")
    with pytest.raises(InputError, match=r"^loop/itself: can't be read"):
        _added(work, "loop")


@pytest.mark.parametrize("also", [b"added", b"added/\xff.txt", b"missing\xff"])
def test_a_name_that_is_not_utf_8_is_refused_in_a_line_that_can_be_printed(work: Path, also: bytes) -> None:
    Path(os.fsdecode(os.fsencode(work) + b"/added/\xff.txt")).write_text("x")
    with pytest.raises(InputError, match=r"\\xff.*: has a name that is not UTF-8") as caught:
        _added(work, os.fsdecode(also))
    assert str(caught.value).encode()


def test_an_experiment_is_sent_wherever_it_lies(work: Path) -> None:
    _write(work / ".ci/y.yaml", "name: y")
    assert choose(work, Path(".ci/y.yaml"), ()).files == [Path(".ci/y.yaml")]
