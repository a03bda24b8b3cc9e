"""The commands that take a finished run into production; they need the extra ``serve``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tutelage.data.manifest import Columns


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Inside, a package that is not installed is answered with the extra that has it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed; install the extra: pip install 'tutelage[{name}]'"
        ) from error


def threshold(
    run_folder: Path,
    fpr: float = 0.01,
    confidence: float = 0.95,
    wrong_labels: float = 0.0,
    held_out: Path | None = None,
    columns: Columns = Columns(),
) -> None:
    """Find the threshold of a moderation run with a guarantee: P(more than fpr of all defects pass) <= 1 - confidence.

    Args:
        run_folder: Folder of a finished moderation run, whose test part the guarantee comes from.
        fpr: False-positive rate to guarantee: the share of all defects that may pass.
        confidence: Confidence of the guarantee.
        wrong_labels: Share of the held-out labels "defective" that is wrong, by an audit of them.
        held_out: CSV or Parquet file of further labelled images that the run has not seen.
        columns: Names of that file's columns.
    """
    with extra("vision"):
        from tutelage.production.threshold import described
    print(described(run_folder, fpr, confidence, wrong_labels, held_out, columns))
