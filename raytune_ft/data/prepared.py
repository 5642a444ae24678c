"""Opens the tokenised splits on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.data import DataFormat
from raytune_ft.data.bad_rows import BadRow
from raytune_ft.data.formats.choose import parse_row
from raytune_ft.data.rows import Row
from raytune_ft.errors import IntegrityError
from raytune_ft.paths import read_json

SCHEMA = 1
MANIFEST = "manifest.json"
TEST_ROWS = "test.rows.jsonl"


@dataclass(frozen=True)
class PreparedData:
    """A directory of tokenised splits whose files match its manifest."""

    directory: Path
    fingerprint: str
    """Hex sha256 of everything that decides the rows."""
    form: DataFormat
    template_sha256: str | None
    """Hash of the chat template, for conversations."""
    sizes: dict[str, int]
    """Split -> number of rows."""
    duplicates: dict[str, int]
    """`train` -> repeats within it, `train/test` -> rows of train that were in test too, ..."""
    warnings: tuple[str, ...]

    def split(self, name: str) -> Path:
        """Returns a split's directory for `datasets.load_from_disk`.

        Its columns are `input_ids` and `labels`, int32; labels are -100 where there is no loss.
        """
        return self.directory / name

    @property
    def test_rows(self) -> Path:
        """JSONL file of the test split's rows before tokenisation, in the same order."""
        return self.directory / TEST_ROWS

    def read_test_rows(self) -> list[Row]:
        """Returns the rows of `test_rows`; raises IntegrityError if one has another format than the manifest says."""
        # Not splitlines(), because an answer may hold U+2028.
        lines = [line for line in self.test_rows.read_text(encoding="utf-8").split("\n") if line]
        try:
            return [
                parse_row(json.loads(line), number, self.form.canonical) for number, line in enumerate(lines, start=1)
            ]
        except (ValueError, BadRow) as problem:
            what = problem.what if isinstance(problem, BadRow) else str(problem)
            raise IntegrityError(
                f"{self.test_rows}: a row is damaged ({what}); remove {self.directory} and prepare it again"
            ) from None


def open_prepared(target: Path) -> PreparedData:
    """Opens what `prepare` wrote.

    Raises:
        IntegrityError: The manifest or a file is missing, or a file's size differs from the manifest's.
    """
    path = target / MANIFEST
    if not path.is_file():
        raise IntegrityError(f"{target}: no prepared data here; run the step that prepares it again")
    manifest: dict[str, Any] = read_json(path)
    if manifest.get("schema") != SCHEMA:
        raise IntegrityError(f"{path}: schema {manifest.get('schema')!r}, expected {SCHEMA}; prepare the data again")
    for name, size in manifest["files"].items():
        file = target / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            shown = "is missing" if found is None else f"has {found} bytes"
            raise IntegrityError(
                f"{file}: {shown}, the manifest says {size} bytes; remove {target} and prepare it again"
            )
    return PreparedData(
        directory=target,
        fingerprint=manifest["fingerprint"],
        form=DataFormat(manifest["form"]),
        template_sha256=manifest["template_sha256"],
        sizes={name: split["rows"] for name, split in manifest["splits"].items()},
        duplicates=manifest["duplicates"],
        warnings=tuple(manifest["warnings"]),
    )
