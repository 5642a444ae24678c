"""`submit` and `doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from raytune_ft.cli.output import console, emit, out, say

DASHBOARD = "http://127.0.0.1:8265"


def submit(
    experiment: Path = typer.Argument(help="Experiment file, inside the working directory."),
    address: str = typer.Option(DASHBOARD, help="URL of the cluster's dashboard."),
    assignments: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Override a setting, e.g. train.max_steps=20; may be repeated."
    ),
    wait: bool = typer.Option(True, help="Stream the job's log until it ends, or return at once."),
    working_dir: Path = typer.Option(Path("."), help="The job finds its files, as far as it needs them."),
    also: list[Path] = typer.Option(
        [], metavar="PATH", help="A file or folder of the working directory that goes along too; may be repeated."
    ),
    python: str = typer.Option("python", help="Interpreter on the cluster's nodes that has raytune-ft's packages."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be sent and run, and end."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Run a sweep on a Ray cluster that is already up."""
    from raytune_ft.cluster.submit import follow, plan_job, start_job

    plan = plan_job(experiment, overrides=assignments, working_dir=working_dir, also=also, python=python)
    sent = {"entrypoint": plan.entrypoint, "files": plan.upload.files, "bytes": plan.upload.size}
    if dry_run:
        for line in plan.lines():
            say(line)
        emit({"status": "NOT SENT", **sent}, as_json, lambda: out(f"would run {plan.entrypoint}"))
        return
    job = start_job(plan, address=address, log=say)
    say(f"job {job.submission_id}: {plan.entrypoint}")
    status = "PENDING"
    if wait:
        try:
            follow(job, sys.stderr.write)
        except KeyboardInterrupt:
            say(f"the job goes on; follow it: {job.how_to_follow}\nstop it: {job.how_to_stop}")
            raise
        status = "SUCCEEDED"
    commands = {"follow": job.how_to_follow, "stop": job.how_to_stop}

    def text() -> None:
        console.print(f"job {job.submission_id}: {status}", markup=False, soft_wrap=True)
        if not wait:
            console.print(f"follow it: {job.how_to_follow}\nstop it:   {job.how_to_stop}", markup=False, soft_wrap=True)

    emit({"submission_id": job.submission_id, "status": status, **commands, **sent}, as_json, text)


def doctor(as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON.")) -> None:
    """Check that this machine can train and serve."""
    from dataclasses import asdict

    from raytune_ft.cluster.doctor import Level, examine

    checks = examine()

    def text() -> None:
        width = max(len(check.name) for check in checks)
        for check in checks:
            remedy = f"  -> {check.remedy}" if check.remedy else ""
            line = f"{check.level:<4}  {check.name:<{width}}  {check.found}{remedy}"
            console.print(line, markup=False, soft_wrap=True)

    emit([asdict(check) for check in checks], as_json, text)
    if any(check.level is Level.fail for check in checks):
        raise typer.Exit(1)
