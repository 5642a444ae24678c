"""The errors a user can meet. Each is one line: where, what is wrong, what to do."""

from __future__ import annotations


class RaytuneError(Exception):
    """A run failed after something was started; the command ends with exit code 1."""

    exit_code = 1


class InputError(RaytuneError, ValueError):
    """The input is wrong and nothing was started; the command ends with exit code 2.

    Args:
        where: File, line or key path, e.g. `train.jsonl:17` or `train.learning_rate`.
        what: What is wrong, with the offending value.
        remedy: What to do about it.
        others: Further problems found in the same pass, each a whole line of its own.
    """

    exit_code = 2

    def __init__(self, where: str, what: str, remedy: str = "", others: tuple[str, ...] = ()) -> None:
        self.where, self.what, self.remedy, self.others = where, what, remedy, others
        super().__init__(where, what, remedy, others)  # args rebuild the error on the other side of a pickle

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")
        return "\n".join((" ".join(line.split()), *self.others))


class LanesLost(RaytuneError):
    """A run's lanes can't be kept; its trials that have not ended are gone on with by `--resume`.

    Args:
        where: The run directory.
        what: Why there is no lane any more.
        remedy: What to do about it.
    """

    def __init__(self, where: str, what: str, remedy: str = "go on with --resume") -> None:
        self.where, self.what, self.remedy = where, what, remedy
        super().__init__(where, what, remedy)  # args rebuild the error on the other side of a pickle

    def after(self, ended: int, wanted: int) -> LanesLost:
        """The same, with how many of a study's trials have ended."""
        what = f"{self.what}; {ended} of {wanted} trials ended, the others stay open"
        return LanesLost(self.where, what, self.remedy)

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.what}; {self.remedy}".split())


class IntegrityError(RaytuneError, ValueError):
    """A file is not what its manifest says: truncated, changed, or missing."""
