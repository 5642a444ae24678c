"""Reads tokenised rows from memory-mapped Arrow files without importing `datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.errors import IntegrityError
from raytune_ft.paths import read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ArrowRows:
    """One split as `prepare` wrote it with `datasets.save_to_disk`.

    Attributes:
        answers: Number of tokens with a loss in each row, int64, [rows]; a row's first token never has one.
        lengths: Number of tokens in each row, int64, [rows].
    """

    answers: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __init__(self, split: Path) -> None:
        """Maps the files of `split`; raises IntegrityError if they are not those that `state.json` lists."""
        import numpy as np

        table = _table(split)
        self._ids: Any = [chunk for chunk in table.column("input_ids").chunks if len(chunk)]
        self._labels: Any = [chunk for chunk in table.column("labels").chunks if len(chunk)]
        self._firsts = np.cumsum([0, *(len(chunk) for chunk in self._ids)])
        self.lengths = np.concatenate([_lengths(chunk) for chunk in self._ids])
        self.answers = np.concatenate([_answers(chunk) for chunk in self._labels])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns `input_ids` and `labels` of a row, int32, [tokens], as views of the mapped file."""
        import numpy as np

        chunk = int(np.searchsorted(self._firsts, row, side="right")) - 1
        at = row - int(self._firsts[chunk])
        return _at(self._ids[chunk], at), _at(self._labels[chunk], at)


def column_lengths(split: Path, columns: Sequence[str]) -> list[NDArray[np.int64]]:
    """Returns how long each row's list in each of these columns is, int64, [rows]; raises as `ArrowRows`."""
    import numpy as np

    table = _table(split)
    return [np.concatenate([_lengths(chunk) for chunk in table.column(name).chunks if len(chunk)]) for name in columns]


def _table(split: Path) -> Any:
    import pyarrow as pa

    tables = []
    for entry in read_json(split / "state.json")["_data_files"]:
        path = split / entry["filename"]
        try:
            tables.append(pa.ipc.open_stream(pa.memory_map(str(path))).read_all())
        except (OSError, pa.ArrowInvalid) as error:
            raise IntegrityError(f"{path}: not whole ({error}); remove {split.parent} and prepare it again") from None
    return pa.concat_tables(tables)


def _offsets(chunk: Any) -> Any:
    return chunk.offsets.to_numpy()


def _at(chunk: Any, row: int) -> Any:
    import numpy as np

    start, end = chunk.offsets[row].as_py(), chunk.offsets[row + 1].as_py()
    return chunk.values[start:end].to_numpy(zero_copy_only=False).astype(np.int32, copy=False)


def _lengths(chunk: Any) -> Any:
    import numpy as np

    return np.diff(_offsets(chunk)).astype(np.int64)


def _answers(chunk: Any) -> Any:
    import numpy as np

    offsets = _offsets(chunk)
    values = chunk.values[offsets[0] : offsets[-1]].to_numpy(zero_copy_only=False)
    counted = (values != IGNORED).astype(np.int64)
    starts = (offsets[:-1] - offsets[0]).astype(np.int64)
    counted[starts] = 0
    return np.add.reduceat(counted, starts)
