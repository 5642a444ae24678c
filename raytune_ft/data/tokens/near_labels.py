"""The remedy for an answer that is none of the labels."""

from __future__ import annotations

from collections.abc import Sequence


def label_remedy(answer: str, labels: Sequence[str]) -> str:
    """Returns the remedy as a clause; it says so if the answer differs from a label only in white space or case."""
    for label in labels:
        if answer.strip() and answer.strip().casefold() == label.strip().casefold():
            unlike = "white space" if answer.strip() == label.strip() else "capitals"
            return f"it differs from {label!r} in {unlike}: write the label as {answer!r}, or mend the rows"
    return "add it to the labels, or mend the row"
