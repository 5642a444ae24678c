"""What is sent to Serve's REST API: one application changed, the others as they were; and what is never sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.cluster import deploy as module
from raytune_ft.cluster.deploy import Deployed, deploy, remove
from raytune_ft.cluster.serve_file import IMPORT_PATH, ServeFile, for_cluster, read_serve_file
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs

ROOT = Path(__file__).parents[3]
HTTP = {"host": "127.0.0.1", "port": 8000, "root_path": ""}


def _application(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "status": "RUNNING", "message": "", "last_deployed_time_s": 1.0, "deployments": {}, "source": "declarative",
        "route_prefix": f"/{name}", "deployed_app_config": {"name": name, "import_path": "x:y"}, **changes,
    }  # fmt: skip


class Cluster:
    """Serve's REST API as far as `deploy` uses it: it keeps exactly what it was sent last."""

    def __init__(self) -> None:
        self.applications, self.sent = dict[str, dict[str, Any]](), list[dict[str, Any]]()
        self.ends_as, self.serve_runs = "RUNNING", False

    def run(self, **applications: dict[str, Any]) -> None:
        self.applications, self.serve_runs = applications, True

    def get_serve_details(self) -> dict[str, Any]:
        started = {"proxy_location": "HeadOnly", "http_options": HTTP} if self.serve_runs else {}
        return {**started, "target_capacity": None, "applications": dict(self.applications)}

    def deploy_applications(self, config: dict[str, Any]) -> None:
        self.sent.append(config)
        self.serve_runs = True
        programs = {name: each for name, each in self.applications.items() if each["source"] != "declarative"}
        sent = {each["name"]: self._deployed(each) for each in config["applications"]}
        self.applications = programs | sent

    def _deployed(self, config: dict[str, Any]) -> dict[str, Any]:
        found = _application(config["name"], deployed_app_config=config, last_deployed_time_s=1.0 + len(self.sent))
        if "args" in config and self.ends_as != "RUNNING":
            found |= {"status": self.ends_as, "message": "Traceback\nValueError: no such base"}
        return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster()
    monkeypatch.setattr(module, "_connect", lambda address: cluster)
    monkeypatch.setattr(module, "POLL_S", 0.0)
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    yield cluster


def _args(**changes: Any) -> ServeArgs:
    return ServeArgs.model_validate({"base_model": "org/base", "registry": "s3://models/registry", **changes})


def test_other_applications_are_sent_back_as_they_were(cluster: Cluster) -> None:
    other = {"name": "other", "import_path": "other:app", "runtime_env": {"env_vars": {"TOKEN": "kept"}}}
    cluster.run(
        other=_application("other", deployed_app_config=other),
        program=_application("program", source="imperative", deployed_app_config=None),
        leaving=_application("leaving", status="DELETING"),
    )
    done = deploy(_args(), ServeFile({}, name="movies", route_prefix="/movies"))
    assert [each["name"] for each in cluster.sent[0]["applications"]] == ["other", "movies"]
    assert cluster.sent[0]["applications"][0] == other
    assert cluster.sent[0]["http_options"] == HTTP
    assert (done.base_url, done.others) == ("http://127.0.0.1:8000/movies/v1", ("other", "program"))
    assert cluster.sent[0]["applications"][1]["args"]["registry"] == "s3://models/registry"
    remove("movies")
    assert cluster.sent[1]["applications"] == [other]
    assert "program" in cluster.applications


def test_an_update_replaces_the_one_of_that_name(cluster: Cluster) -> None:
    for length in (512, 1024):
        deploy(_args(max_model_len=length), ServeFile({}))
    assert [each["args"]["max_model_len"] for each in cluster.sent[1]["applications"]] == [1024]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (_application("other", route_prefix="/"), "the application 'other' answers at / already; choose another"),
        (
            _application("other", deployed_app_config={"runtime_env": {"env_vars": {"TOKEN": "<redacted>"}}}),
            "other: can't be sent back as it was",
        ),
        (_application("other", deployed_app_config=None), "other: can't be sent back as it was"),
    ],
)
def test_what_would_harm_another_application_is_refused(cluster: Cluster, other: dict[str, Any], says: str) -> None:
    cluster.run(other=other)
    with pytest.raises(InputError, match=says):
        deploy(_args(), ServeFile({}))
    assert not cluster.sent


def test_an_application_of_a_program_is_neither_replaced_nor_removed(cluster: Cluster) -> None:
    cluster.run(movies=_application("movies", source="imperative", deployed_app_config=None))
    for act in (lambda: deploy(_args(), ServeFile({}, name="movies")), lambda: remove("movies")):
        with pytest.raises(InputError, match=r"was started by a program, with serve\.run"):
            act()
    with pytest.raises(InputError, match=r"runs no application 'none' \(runs movies\)"):
        remove("none")
    assert not cluster.sent


def test_a_host_that_others_reach_needs_a_key_before_anything_is_sent(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"host 0\.0\.0\.0: it is reachable by others and no API key is set"):
        deploy(_args(host="0.0.0.0"), ServeFile({}))
    assert not cluster.sent
    deploy(_args(host="0.0.0.0", api_keys_file="/shared/keys.json"), ServeFile({}))
    monkeypatch.setenv(API_KEY_VARIABLE, "a-secret-of-the-cluster")
    deploy(_args(host="0.0.0.0"), ServeFile({}))
    assert "a-secret-of-the-cluster" not in str(cluster.sent), "whoever sees the dashboard sees what is sent"


def test_a_serve_that_listens_for_others_already_needs_a_key_too(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.run(other=_application("other"))
    monkeypatch.setitem(HTTP, "host", "0.0.0.0")
    with pytest.raises(InputError, match="Serve listens there already: it is reachable by others"):
        deploy(_args(host="127.0.0.1"), ServeFile({}))
    assert not cluster.sent
    done = deploy(_args(api_keys_file="/shared/keys.json"), ServeFile({}), address="http://head.example:8265")
    assert done.base_url == "http://head.example:8000/v1"
    assert cluster.sent[0]["applications"][-1]["args"]["host"] == "0.0.0.0", "the replicas check where they listen"


def test_a_deployment_that_fails_says_its_cause_and_how_to_take_it_away(cluster: Cluster) -> None:
    cluster.ends_as, told = "DEPLOY_FAILED", list[str]()
    with pytest.raises(RaytuneError, match=r"DEPLOY_FAILED: ValueError: no such base; .*--remove --name raytune-ft"):
        deploy(_args(), ServeFile({}), log=told.append)
    assert told == ["raytune-ft is DEPLOY_FAILED"]


def test_local_paths_become_absolute_and_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    args, shared = for_cluster(_args(base_model="base", registry="registry", api_keys_file="keys.json"))
    assert (args.base_model, args.registry) == (str(tmp_path / "base"), str(tmp_path / "registry"))
    assert shared == (str(tmp_path / "base"), str(tmp_path / "registry"), str(tmp_path / "keys.json"))
    args, shared = for_cluster(_args())
    assert (args.base_model, args.registry, shared) == ("org/base", "s3://models/registry", ())


@pytest.mark.parametrize(
    "content", ["applications: []\n", "a: 1\n", "applications: [{import_path: 'x:y', args: {}}]\n"]
)
def test_a_file_without_one_endpoint_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text(content)
    with pytest.raises(InputError, match="has 0 applications with import_path"):
        read_serve_file(tmp_path / "serve.yaml")
    with pytest.raises(InputError, match="is missing"):
        read_serve_file(tmp_path / "none.yaml")


def test_options_override_the_files_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent: dict[str, Any] = {}

    def record(args: ServeArgs, file: ServeFile, **options: Any) -> Deployed:
        sent.update(args=args, file=file, **options)
        return Deployed(file.name, "http://127.0.0.1:8000/v1", ("other",), ())

    monkeypatch.setattr(module, "deploy", record)
    arguments = ["serve", "--deploy", "--config", str(ROOT / "serve/replicas.yaml"), "--registry", "s3://mine/registry"]
    arguments += ["--name", "movies", "--max-model-len", "2048", "--adapter", "movies", "--address", "http://head:8265"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    args, file = sent["args"], sent["file"]
    assert (args.registry, args.max_model_len, args.adapters) == ("s3://mine/registry", 2048, ("movies",))
    assert args.autoscaling.max_replicas == 8 and args.log_dir is None
    assert (file.name, file.application) == ("movies", {"import_path": IMPORT_PATH})
    assert sent["address"] == "http://head:8265"
    assert "movies answers at http://127.0.0.1:8000/v1; beside it run other" in done.output
