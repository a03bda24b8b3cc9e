"""The commands that take a finished run into production; they need the extra ``serve``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from tutelage.data.manifest import Columns
from tutelage.production.serving.settings import ServiceSettings


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
        wrong_labels: Share of the held-out labels "defective" that are wrong, by an audit.
        held_out: CSV or Parquet file of further labelled images that the run has not seen.
        columns: Names of that file's columns.
    """
    with extra("vision"):
        from tutelage.production.threshold import described
    print(described(run_folder, fpr, confidence, wrong_labels, held_out, columns))


def export(
    run_folder: Path,
    out: Path = Path("model"),
    data: Path | None = None,
    int8: bool = False,
    fpr: float | None = None,
    confidence: float | None = None,
    wrong_labels: float = 0.0,
    held_out: Path | None = None,
    columns: Columns = Columns(),
) -> None:
    """Write a run's model as ONNX and safetensors, with model.json, which says what it is and what was checked.

    Args:
        run_folder: Folder of a finished run.
        out: Folder to write; an exported model already there is replaced.
        data: Path of the run's data, if they have moved since the run.
        int8: Compute in 8 bits; the cost is measured on the test part.
        fpr: For a moderation run: false-positive rate at which to decide; the run's own by default.
        confidence: For a moderation run: decide by the threshold that guarantees the rate with this confidence.
        wrong_labels: Share of the held-out labels "defective" that are wrong, for the guarantee.
        held_out: CSV or Parquet file of further labelled images that the run has not seen, for the guarantee.
        columns: Names of that file's columns.
    """
    with extra("serve"):
        from tutelage.production import export as exporting
    from tutelage.cli.again import task_of

    card = exporting.export(
        run_folder,
        out,
        task_of(run_folder, data),
        int8=int8,
        fpr=fpr,
        confidence=confidence,
        wrong_labels=wrong_labels,
        held_out=held_out,
        columns=columns,
    )
    parity = card["parity"]
    print(
        f"model {card['version']} in {out}: on {parity['examples']} test examples no logit differs from PyTorch's by more than "
        f"{parity['largest_difference_of_logits']:.1e}"
    )


def serve(
    model: Path,
    challengers: dict[str, Path] | None = None,
    weights: dict[str, float] | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    decisions: str = "decisions.sqlite",
    service: ServiceSettings = ServiceSettings(),
) -> None:
    """Serve an exported model over HTTP: a page to try it, SageMaker's contract, and the Open Inference Protocol.

    Args:
        model: Folder written by tutelage export; a new export there is served without dropping a request.
        challengers: Further exported models, by variant; the model's own variant is incumbent.
        weights: Share of the ads that each variant decides; one without a weight scores every ad and decides none.
        host: Address to listen on; 127.0.0.1 accepts requests from this machine only.
        port: Port to listen on.
        token: Token that requests must give; by default TUTELAGE_TOKEN, or a fresh, printed one. none admits everybody.
        decisions: SQLite file or PostgreSQL URL in which decisions about ads with an id are logged; none logs nothing.
        service: Sizes and times.
    """
    with extra("serve"):
        from tutelage.production.serving.running import start
    start(model, challengers or {}, weights or {}, host, port, token, decisions, service)


def score(
    model: Path,
    data: Path,
    out: Path = Path("scores.parquet"),
    processes: int | None = None,
    ray: bool = False,
    ray_address: str | None = None,
    columns: Columns = Columns(),
) -> None:
    """Score a table of images or texts of any length with an exported model; killed and started again, it resumes.

    Args:
        model: Folder written by tutelage export.
        data: CSV or Parquet file with a column image (a path under its folder), or text; for a model of features, a file of
            features.
        out: Table to write, .parquet or .csv; what was left out is listed beside it.
        processes: Processes that decode images; one for each processor by default.
        ray: Score on a Ray cluster, whose machines see model and images under the same paths (extra ray).
        ray_address: Address of the cluster: auto, host:6379 or ray://host:10001; by default this machine alone.
        columns: Names of the table's columns.
    """
    with extra("serve"):
        from tutelage.production.score import score as scored

    if ray or ray_address is not None:
        with extra("ray"):
            import_module("ray")
    found = scored(model, data, out, columns=columns, processes=processes, ray=ray, ray_address=ray_address)
    given = ", ".join(f"{name} {count}" for name, count in found.given.items())
    print(f"{found.scored} scored{given and ': '}{given}; {found.left_out.summary()}. Written to {out}")
