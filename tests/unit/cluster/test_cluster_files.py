"""The files of clusters/ are what their readers take, and safe as they stand."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytune_ft.serving.settings import ServeArgs

ROOT = Path(__file__).parents[3]
CLUSTERS = ROOT / "clusters"
KUBERAY = {
    "rayjob-sweep.yaml": ("RayJob", "rayClusterSpec"),
    "rayservice-endpoint.yaml": ("RayService", "rayClusterConfig"),
}


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTERS / name).read_text())


@pytest.fixture(params=KUBERAY)
def kuberay(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """A KubeRay resource and the cluster in it."""
    kind, key = KUBERAY[request.param]
    resource = read(f"kuberay/{request.param}")
    assert (resource["apiVersion"], resource["kind"]) == ("ray.io/v1", kind)
    return resource, resource["spec"][key]


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_kuberay_runs_the_locked_ray(kuberay: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert kuberay[1]["rayVersion"] == version("ray")


def test_kuberay_s_clusters_ask_for_a_token_and_stay_inside(kuberay: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert kuberay[1]["authOptions"] == {"mode": "token"}
    assert kuberay[1]["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_kuberay_s_pods_are_unprivileged(kuberay: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for pod in pods(kuberay[1]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"].keys() == container["resources"]["requests"].keys()
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_kuberay_s_secrets_are_references(kuberay: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for pod in pods(kuberay[1]):
        for variable in pod["containers"][0]["env"]:
            if variable["name"].endswith(("_TOKEN", "_KEY")):
                assert "secretKeyRef" in variable["valueFrom"] and "value" not in variable


def test_the_rayservice_s_application_is_one_that_serve_and_this_package_take() -> None:
    from ray.serve.schema import ServeDeploySchema

    written = read("kuberay/rayservice-endpoint.yaml")["spec"]["serveConfigV2"]
    config = ServeDeploySchema.model_validate(yaml.safe_load(written))
    (application,) = config.applications
    assert application.import_path == "raytune_ft.serving.app:build_app"
    arguments = ServeArgs.model_validate(application.args)
    assert arguments.host == config.http_options.host


def test_the_rayjob_s_entrypoint_is_a_command_of_this_package() -> None:
    words = read("kuberay/rayjob-sweep.yaml")["spec"]["entrypoint"].split()
    assert words[:4] == ["python", "-m", "raytune_ft", "sweep"]


@pytest.mark.parametrize("name", ["onprem.yaml", "aws.yaml"])
def test_ray_s_cluster_launcher_takes_the_vm_files(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read(f"vm/{name}"))
    validate_config(config)
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_the_slurm_script_is_valid_bash() -> None:
    done = subprocess.run(["bash", "-n", str(CLUSTERS / "slurm/sweep.sbatch")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_skypilot_task_is_valid_and_its_commands_are_bash() -> None:
    task = read("skypilot/sweep.yaml")
    assert task["num_nodes"] == 2
    for step in ("setup", "run"):
        done = subprocess.run(["bash", "-n"], input=task[step], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_image_runs_as_an_ordinary_user_with_ray_s_token() -> None:
    lines = (CLUSTERS / "docker/Dockerfile").read_text().splitlines()
    assert lines.index("USER 1000:1000") > max(i for i, line in enumerate(lines) if line.startswith("RUN"))
    assert any("RAY_AUTH_MODE=token" in line for line in lines)
