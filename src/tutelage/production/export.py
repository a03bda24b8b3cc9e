"""A finished run's model as a folder that needs no PyTorch: ONNX, safetensors, and model.json, which says what was checked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage import __version__
from tutelage.data.manifest import Columns
from tutelage.files import flush, read_json, read_parquet
from tutelage.production.card import NAME, digest, write_card
from tutelage.production.deciding import Asked, Deciding
from tutelage.production.graph import Served, run_graph, write_graph, write_int8_graph
from tutelage.production.judgement import lost
from tutelage.production.material import Material, images_of, texts_of
from tutelage.recipes.finished import recipe_of
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.target import Target
from tutelage.recipes.task import Task
from tutelage.reports.subtask_names import called, typed_names

TOLERANCE = 1e-3
"""How far a logit of the graph may lie from PyTorch's, relative to the largest; single precision differs by about 1e-6."""


def export(
    run_folder: Path,
    out: Path,
    task: Task | None = None,
    *,
    int8: bool = False,
    fpr: float | None = None,
    confidence: float | None = None,
    wrong_labels: float = 0.0,
    held_out: Path | None = None,
    columns: Columns = Columns(),
) -> dict[str, Any]:
    """Write a run's model as ONNX and safetensors, checked against PyTorch on the run's test part; return its card.

    An exported model that is already in the folder is replaced: model.json comes last and names the others by their hashes, so
    that a service sees the one or the other.

    Args:
        run_folder: of a finished run.
        out: the folder.
        task: what the run worked on; None where the run's folder holds its examples, as that of denoise does.
        int8: compute in 8 bits, with ranges seen on the validation part; what that costs is measured on the test part.
        fpr: of a moderation run: the false-positive rate at which it decides, by default the run's own.
        confidence: of a moderation run: decide by the threshold that guarantees the rate (see `guaranteed_threshold`); by
            the run's own threshold if None.
        wrong_labels: share of the test part's labels "defective" that is wrong, for the guarantee.
        held_out: further labelled images that the run has not seen, for the guarantee.
        columns: names of that file's columns.

    Raises:
        FileNotFoundError: no finished run.
        ValueError: the folder holds something else, the recipe or the run's model cannot be exported, a threshold is asked
            for that cannot be, held-out images that the run has seen or too few defects among them for the guarantee, or the
            graph and PyTorch differ.
    """
    asked = Asked(fpr, confidence, wrong_labels, held_out, columns)
    recipe, target = _requested(run_folder, out, asked)
    material = _material(recipe, run_folder, target, task)
    deciding = None
    if recipe.decides:
        assert task is not None
        deciding = Deciding.read(run_folder, recipe, asked, target, task)
    centres, subtasks = _centres(run_folder, target.module, material)
    served = Served(target.module, target.head, centres)
    draft: dict[str, Any] = {"answer": dict(target.answer), "classes": target.classes}
    with _made(out), TemporaryDirectory(dir=out, prefix=".export-") as folder:
        drawn = _drawn(served, material, draft, Path(folder), deciding, int8=int8)
        if deciding is not None:
            draft["answer"] |= {"subtasks": subtasks, **deciding.answer(drawn.path, drawn.logits, material)}
        files = _placed(drawn.path, run_folder / "model", out)
    metrics = read_json(run_folder / "metrics.json")
    card = write_card(
        out,
        {
            "recipe": recipe.name,
            "title": metrics["pipeline"]["title"],
            "tutelage": __version__,
            "input": target.input,
            **draft,
            "graph": next(name for name in files if name.endswith(".onnx")),
            "data": {"fingerprint": material.fingerprint},
            "parity": drawn.parity,
            "int8": drawn.int8,
            "metrics": metrics,
            "files": files,
        },
    )
    for stale in out.glob("graph-*.onnx"):
        if stale.name not in files:
            stale.unlink()
    return card


@contextmanager
def _made(out: Path) -> Iterator[None]:
    """Inside, a folder is there; one that was made for an export that is refused goes again."""
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                out.rmdir()
        raise


def _requested(run_folder: Path, out: Path, asked: Asked) -> tuple[Recipe[Any, Any, Any], Target]:
    """Return a run's recipe and what of the run is exported; refuse what cannot be before anything long."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / NAME).is_file():
        raise ValueError(f"out={str(out)!r} holds something else than an exported model; give a new or an empty folder")
    recipe = recipe_of(run_folder)
    if recipe.target is None:
        raise ValueError(
            f"{run_folder} is a run of {recipe.name}, whose recipe says nothing of what is served, so that it cannot be "
            "exported; answer new examples with tutelage predict"
        )
    asked.check(recipe)
    return recipe, recipe.target(run_folder)


def _material(recipe: Recipe[Any, Any, Any], run_folder: Path, target: Target, task: Task | None) -> Material:
    """Return what the export is checked on."""
    if target.input["kind"] == "text":
        return texts_of(run_folder, target.classes or [])
    if task is None:
        raise ValueError(f"task is None: the export of a run of {recipe.name} is checked on the run's own images")
    return images_of(task, recipe.validation)


@dataclass(frozen=True)
class _Drawn:
    """A graph that was checked: its file, its outputs on the test part, how near PyTorch it is, and what 8 bits cost."""

    path: Path
    logits: NDArray[Any]
    parity: dict[str, Any]
    int8: dict[str, Any] | None


def _drawn(
    served: Served, material: Material, draft: dict[str, Any], folder: Path, deciding: Deciding | None, *, int8: bool
) -> _Drawn:
    """Write a model's graph into a folder and check it; by 8 bits, where that is asked for."""
    graph = folder / "graph.onnx"
    write_graph(served, torch.from_numpy(material.inputs(material.test[:2])), graph)
    exact = run_graph(graph, material.batches(material.test))[0]
    parity = _parity(served, material, exact)
    if not int8:
        return _Drawn(graph, exact, parity, None)
    smaller = folder / "int8.onnx"
    write_int8_graph(graph, lambda: material.batches(material.validation), smaller)
    logits = run_graph(smaller, material.batches(material.test))[0]
    judged = (None, 0) if deciding is None else (deciding.test, deciding.seed)
    facts = {"calibrated_on": len(material.validation), **lost(draft, exact, logits, material.labels, *judged)}
    facts["bytes"] = {"float32": graph.stat().st_size, "int8": smaller.stat().st_size}
    return _Drawn(smaller, logits, parity, facts)


def _parity(served: Served, material: Material, logits: NDArray[Any]) -> dict[str, Any]:
    with torch.no_grad():
        wanted = torch.cat([served(torch.from_numpy(batch))[0] for batch in material.batches(material.test)]).numpy()
    furthest = float(np.abs(wanted - logits).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    if not furthest <= allowed:
        raise ValueError(
            f"the ONNX graph is not the model: a logit differs from PyTorch's by {furthest:.3g}, and {allowed:.3g} is allowed"
        )
    same = float((wanted.argmax(1) == logits.argmax(1)).mean())
    return {"examples": len(wanted), "largest_difference_of_logits": furthest, "same_class": same}


def _centres(run_folder: Path, module: nn.Module, material: Material) -> tuple[Tensor | None, list[str] | None]:
    """Return the mean feature of the defects of each sub-task that a moderation run has kept, and what each is called."""
    table = run_folder / "examples.parquet"
    if not (run_folder / "subtasks.parquet").is_file() or not hasattr(module, "features"):
        return None, None
    examples = read_parquet(table)
    features: Any = module.features
    inside = examples["subtask_kept"].fillna(False).to_numpy(bool) & (examples["label"] == 0).to_numpy()
    numbers = sorted(examples["subtask"][inside].unique().tolist())
    centres = []
    for number in numbers:
        rows = torch.from_numpy(np.flatnonzero(inside & (examples["subtask"] == number).to_numpy()))
        with torch.no_grad():
            parts = [features(torch.from_numpy(batch)) for batch in material.batches(rows)]
        centres.append(torch.cat(parts).double().mean(0).float())
    names = typed_names(run_folder)
    return (torch.stack(centres), [called(names, number) for number in numbers]) if centres else (None, None)


def _placed(graph: Path, model: Path, out: Path) -> dict[str, str]:
    """Put the files of a model into their folder; return their hashes by name."""
    sources = {f"graph-{digest(graph)[:12]}.onnx": graph, **{path.name: path for path in sorted(model.iterdir())}}
    for name, source in sources.items():
        shutil.copyfile(source, out / f".{name}.new")
        flush(out / f".{name}.new")
        (out / f".{name}.new").replace(out / name)
    return {name: digest(out / name) for name in sources}
