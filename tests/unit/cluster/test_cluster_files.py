"""The files of clusters/ are what their readers take, and safe as they stand."""

from __future__ import annotations

import importlib
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


def _stub(directory: Path, name: str, body: str = "") -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def test_the_slurm_script_gives_each_node_s_ray_its_cores_and_time_to_start(tmp_path: Path) -> None:
    """Since 22.05 srun takes its cores from no allocation; symmetric-run waits for 30 s by itself."""
    tools, work = tmp_path / "bin", tmp_path / "work"
    _stub(work / ".venv/bin", "activate")
    _stub(tools, "scontrol", "printf 'node1\\nnode2\\n'")
    _stub(tools, "python", "echo token")
    _stub(tools, "srun", 'echo "$RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT"; printf "%s\\n" "$@"')
    slurm = {"SLURM_SUBMIT_DIR": str(work), "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    environment = {**slurm, "SLURM_CPUS_PER_TASK": "8", "PATH": f"{tools}:/usr/bin:/bin"}
    script = str(CLUSTERS / "slurm/sweep.sbatch")
    done = subprocess.run(["bash", script, "x.yaml"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    timeout_s, *words = done.stdout.splitlines()
    of_srun, of_ray = words[: words.index("ray")], words[words.index("ray") :]
    assert "--cpus-per-task=8" in of_srun and "--num-cpus=8" in of_ray
    assert int(timeout_s) >= 300
    assert of_ray[-5:] == ["python", "-m", "raytune_ft", "sweep", "x.yaml"]


def test_symmetric_run_waits_as_long_as_the_slurm_script_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.scripts import symmetric_run

    try:
        with monkeypatch.context() as patch:
            patch.setenv("RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT", "600")
            assert importlib.reload(symmetric_run).CLUSTER_WAIT_TIMEOUT == 600
    finally:
        importlib.reload(symmetric_run)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_skypilot_job_s_ray_takes_its_token_from_a_secret_and_prints_it_nowhere(tmp_path: Path, rank: str) -> None:
    """A token that is made of the task's id and the nodes' addresses can be made by whoever reads the logs."""
    task, tools = read("skypilot/sweep.yaml"), tmp_path / "bin"
    assert task["secrets"]["RAY_AUTH_TOKEN"] is None, "required"
    _stub(tmp_path / "raytune/bin", "activate")
    _stub(tools, "ray", f'echo "$RAY_AUTH_TOKEN" >{tmp_path}/token; echo "$@"')
    _stub(tools, "python")
    sky = {"SKYPILOT_TASK_ID": "sky-1", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_GPUS_PER_NODE": "1"}
    environment = {**sky, "SKYPILOT_NODE_RANK": rank, "HOME": str(tmp_path), "PATH": f"{tools}:/usr/bin:/bin"}
    environment["EXPERIMENT"] = "x.yaml"
    without = subprocess.run(["bash", "-c", task["run"]], env=environment, capture_output=True, text=True)
    assert without.returncode != 0 and "--secret RAY_AUTH_TOKEN" in without.stderr
    secret = "c0ffee" * 10
    done = subprocess.run(
        ["bash", "-c", task["run"]], env={**environment, "RAY_AUTH_TOKEN": secret}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "token").read_text().strip() == secret
    assert secret not in done.stdout + done.stderr


def test_no_field_of_the_rayservice_is_one_that_kuberay_ignores() -> None:
    """Both thresholds are "not used anymore", says RayServiceSpec (ray-project/kuberay, rayservice_types.go)."""
    ignored = {"serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"}
    assert not ignored & read("kuberay/rayservice-endpoint.yaml")["spec"].keys()


def test_serve_s_processes_speak_grpc_wherever_these_files_start_ray() -> None:
    from ray.serve._private import constants

    name = "RAY_SERVE_USE_GRPC_BY_DEFAULT"
    assert hasattr(constants, name), "Ray has another name for it"
    assert f"{name}=1" in (CLUSTERS / "docker/Dockerfile").read_text()
    for pod in pods(read("kuberay/rayservice-endpoint.yaml")["spec"]["rayClusterConfig"]):
        assert {"name": name, "value": "1"} in pod["containers"][0]["env"]
    for file in ("aws.yaml", "onprem.yaml"):
        for role in ("head", "worker"):
            (start,) = [each for each in read(f"vm/{file}")[f"{role}_start_ray_commands"] if "ray start" in each]
            assert f"{name}=1 ray start" in " ".join(start.split())


def test_an_image_without_the_mount_helper_is_told_of_before_the_mount() -> None:
    check, mount, *_ = read("vm/aws.yaml")["setup_commands"]
    assert "mount -t efs" in mount and "mount.efs" in check
    done = subprocess.run(["bash", "-c", check.replace("/sbin/mount.efs", "/none")], capture_output=True, text=True)
    assert done.returncode == 1 and "amazon-efs-utils" in done.stderr


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
