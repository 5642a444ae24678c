"""What goes along with a submitted job, down to the archive that Ray makes of it, and what is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.cluster import submit, upload
from raytune_ft.cluster.submit import JobPlan, plan_job, start_job
from raytune_ft.errors import InputError

Plan = Callable[..., JobPlan]
SPACE = "parameters: {train.learning_rate: {loguniform: [1.0e-4, 1.0e-3]}}\n"
EXPERIMENT = """
name: x
base_model: org/model
data: {train: data/train.jsonl, test: data/test.jsonl}
search: {space: spaces/mine.yaml}
promotion: {retention: {text: general.txt}}
"""
SECRETS = {
    "keys.json": '{"schema": 1, "keys": []}',
    "tls.key": "hunter2hunter2",
    "id_ed25519": "hunter2hunter2",
    "serve_log/requests-a.jsonl": '{"time": "2026-01-01T00:00:00.000+00:00", "request": "1", "asked": "secret"}\n',
    "my keys of july.json": '{"schema": 1, "keys": [{"name": "ann", "sha256": "' + "0" * 64 + '"}]}',
    "access-old.jsonl": '{"time": "2026-01-01T00:00:00.000+00:00", "request": "1", "key": "ann"}\n',
    "notes.txt": "hf_" + "a1" * 17,
    "login.sh": "export WANDB_API_KEY=" + "0" * 40,
}


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    row = '{"prompt": "a", "completion": " b"}\n'
    _write(root, {"experiments/x.yaml": EXPERIMENT, "spaces/mine.yaml": SPACE, "general.txt": "Some text."})
    _write(root, {"data/train.jsonl": row * 3, "data/test.jsonl": row})
    return root


@pytest.fixture
def plan(work: Path) -> Plan:
    return lambda **options: plan_job(work / "experiments/x.yaml", working_dir=work, **options)


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[JobPlan], list[str]]:
    """The names in the archive that Ray's client makes of a started job's working directory."""
    from ray._private.runtime_env.packaging import create_package

    class Client:
        def submit_job(self, *, runtime_env: dict[str, Any], **_: Any) -> None:
            excludes = runtime_env.get("excludes", [])
            create_package(runtime_env["working_dir"], tmp_path / "a.zip", include_gitignore=False, excludes=excludes)

    monkeypatch.setattr(submit, "connect", lambda address: Client())

    def start(plan: JobPlan) -> list[str]:
        told: list[str] = []
        start_job(plan, log=told.append)
        assert told == plan.lines()
        return sorted(zipfile.ZipFile(tmp_path / "a.zip").namelist())

    return start


def test_only_what_the_job_reads_is_sent(work: Path, plan: Plan, archive: Callable[[JobPlan], list[str]]) -> None:
    _write(work, {**SECRETS, ".env": "x", "data/unrelated.jsonl": "{}", "raytune_ft_notes.md": "x"})
    needed = ["data/test.jsonl", "data/train.jsonl", "experiments/x.yaml", "general.txt", "spaces/mine.yaml"]
    assert archive(plan()) == needed


def test_what_goes_along_is_told_with_its_size(work: Path, plan: Plan) -> None:
    head, *lines = plan().upload.lines()
    assert head.startswith(f"sends 5 files of {work}, ") and head.endswith("KiB:")
    assert "  data/train.jsonl  108 B  data.train" in lines
    assert {line.split()[-1] for line in lines} >= {"data.test", "search.space", "promotion.retention.text"}


def test_the_told_size_is_the_archives(work: Path, plan: Plan, archive: Callable[..., Any], tmp_path: Path) -> None:
    _write(work, {f"more/{'long' * 20}{index}.txt": "x" for index in range(50)})
    planned = plan(also=[Path("more")])
    archive(planned)
    assert 0 <= planned.upload.size - (tmp_path / "a.zip").stat().st_size < 100 * len(planned.upload.files)


def test_a_user_adds_files_and_folders(work: Path, plan: Plan, archive: Callable[[JobPlan], list[str]]) -> None:
    _write(work, {"mine/reward.py": "def reward(): ...", "mine/__pycache__/reward.pyc": "x", "mine/.git/config": "x"})
    assert "mine/reward.py" in (names := archive(plan(also=[Path("mine"), Path("spaces/mine.yaml")])))
    assert len(names) == 6


@pytest.mark.parametrize("also", [".", "..", "../elsewhere", "/etc", "runs/x", ".ssh", "missing"])
def test_nothing_outside_and_no_whole_directory_is_added(work: Path, plan: Plan, also: str) -> None:
    _write(work, {"runs/x": "x", ".ssh/config": "x", "../elsewhere/x": "x"})
    with pytest.raises(InputError, match=r"^--also: "):
        plan(also=[Path(also)])


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_would_be_sent_is_refused(work: Path, plan: Plan, name: str) -> None:
    _write(work, {f"added/{name}": SECRETS[name]})
    with pytest.raises(InputError) as caught:
        plan(also=[Path("added")])
    assert caught.value.where.partition(":")[0] == f"added/{name}"
    assert "would be sent (--also)" in caught.value.what
    assert caught.value.remedy.endswith("leave it out of --also")
    assert SECRETS[name] not in str(caught.value)


def test_a_job_reads_a_file_by_the_name_it_is_sent_under(work: Path, plan: Plan, archive: Callable[..., Any]) -> None:
    (work / "deep/er").mkdir(parents=True)
    (work / "link").symlink_to("deep/er")
    (work / "data/train.jsonl").rename(work / "deep/rows.jsonl")
    planned = plan(overrides=["data.train=link/../rows.jsonl"])
    assert "deep/rows.jsonl" in archive(planned)
    settings = [word for word in planned.entrypoint.split() if word.startswith("data.train=")]
    assert settings[-1] == "data.train=deep/rows.jsonl"


def test_hidden_files_of_a_folder_stay_here(work: Path, plan: Plan) -> None:
    _write(work, {"added/.env": "WANDB_API_KEY=" + "0" * 40, "added/rows.txt": "x"})
    sent = plan(also=[Path("added")]).upload.files
    assert [file.name for file in sent if file.parts[0] == "added"] == ["rows.txt"]


def test_data_that_holds_a_secret_is_refused_with_the_setting_that_names_it(work: Path, plan: Plan) -> None:
    with (work / "data/train.jsonl").open("a") as stream:
        stream.write('{"prompt": "-----BEGIN RSA PRIVATE KEY-----", "completion": " b"}\n')
    with pytest.raises(InputError, match=r"^data/train.jsonl:4: holds what looks like a private key.*data.train="):
        plan()


def test_a_link_to_a_key_is_a_key(work: Path, plan: Plan) -> None:
    _write(work, {"../.ssh/id_rsa": "x"})
    (work / "more").mkdir()
    (work / "more/rows.jsonl").symlink_to(work / "../.ssh/id_rsa")
    with pytest.raises(InputError, match=r"^more/rows.jsonl: is named like a key"):
        plan(also=[Path("more")])


def test_a_token_in_the_experiment_is_refused(work: Path, plan: Plan) -> None:
    with (work / "experiments/x.yaml").open("a") as stream:
        stream.write("# the token is hf_" + "a1" * 17 + "\n")
    with pytest.raises(InputError, match=r"^experiments/x.yaml:\d: holds what looks like a Hugging Face token"):
        plan()


def test_a_password_in_a_setting_is_refused_and_not_shown(work: Path, plan: Plan) -> None:
    with pytest.raises(InputError, match=r"^--set: search.storage holds a key or a password") as caught:
        plan(overrides=["search.storage=postgresql://me:hunter2@db/studies"])
    assert "hunter2" not in str(caught.value)
    text = EXPERIMENT.replace("{space:", "{storage: 'postgresql://me:hunter2@db/studies', space:")
    (work / "experiments/x.yaml").write_text(text)
    with pytest.raises(InputError, match=r"^experiments/x.yaml: search.storage holds a key or a password"):
        plan()
    (work / "experiments/x.yaml").write_text(text.replace("hunter2", "***"))
    assert "postgresql" in (work / plan().upload.files[0]).read_text()


def test_too_much_is_refused_before_anything_is_sent(work: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MAX_UPLOAD_BYTES", 4000)
    (work / "data/train.jsonl").write_text("x" * 4000)
    with pytest.raises(InputError, match=r"^data/train.jsonl: 3.9 KiB of the .* KiB that would be sent; Ray.*takes"):
        plan()


def test_the_limit_is_rays() -> None:
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE

    assert upload.MAX_UPLOAD_BYTES == DASHBOARD_CLIENT_MAX_SIZE


def test_a_checkout_s_package_goes_along_without_its_caches(
    work: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(work, {"raytune_ft/cli/app.py": "x = 1", "raytune_ft/__pycache__/x.pyc": "x", "tests/test_x.py": "x = 1"})
    assert Path("raytune_ft/cli/app.py") not in plan().upload.files
    monkeypatch.setattr(upload, "_PACKAGE", work / "raytune_ft")
    files = plan().upload.files
    assert [file for file in files if file.parts[0] in ("raytune_ft", "tests")] == [Path("raytune_ft/cli/app.py")]


def test_this_package_can_be_sent() -> None:
    root = Path(upload.__file__).parents[2]
    parts = upload.choose(root, Path("experiments/quickstart.yaml"), ()).parts
    assert parts[-1].why == "this package" and len(parts[-1].files) > 100


def test_a_dry_run_shows_everything_and_asks_no_cluster(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from raytune_ft.cli.app import app

    monkeypatch.chdir(work)
    command = ["submit", "experiments/x.yaml", "--address", "http://127.0.0.1:1", "--dry-run", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert "data/train.jsonl" in found["files"] and found["status"] == "NOT SENT" and found["bytes"] > 0
    assert "sends 5 files" in done.stderr
