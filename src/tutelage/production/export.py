"""A finished run's model as a folder that needs no PyTorch: ONNX, safetensors, and model.json, which says what was checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage import __version__
from tutelage.data.manifest import Columns
from tutelage.files import flush, read_parquet
from tutelage.production.card import NAME, digest, write_card
from tutelage.production.graph import Served, write_graph, write_int8_graph
from tutelage.production.held_out import further_images
from tutelage.production.judgement import lost, thresholds
from tutelage.production.material import BATCH, Material, images_of, texts_of
from tutelage.recipes.finished import recipe_of
from tutelage.recipes.moderation import recipe as moderation
from tutelage.recipes.moderation.judged import judged_test
from tutelage.recipes.task import Task
from tutelage.reports.subtask_names import called, typed_names

TOLERANCE = 1e-3
"""How far a logit of the graph may lie from PyTorch's, relative to the largest; single precision differs by about 1e-6."""


@dataclass(frozen=True)
class Target:
    """What a recipe's model is served as: the module and its head, and the card's ``input``, ``answer`` and ``classes``."""

    module: nn.Module
    head: str | None
    input: dict[str, Any]
    answer: dict[str, Any]
    classes: list[str] | None


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
        task: what the run worked on; a run of denoise needs none.
        int8: compute in 8 bits, with ranges seen on the validation part; what that costs is measured on the test part.
        fpr: of a moderation run: the false-positive rate at which it decides, by default the run's own.
        confidence: of a moderation run: decide by the threshold that guarantees the rate (see `guaranteed_threshold`); by
            the run's own threshold if None.
        wrong_labels: share of the test part's labels "defective" that is wrong, for the guarantee.
        held_out: further labelled images that the run has not seen, for the guarantee.
        columns: names of that file's columns.

    Raises:
        FileNotFoundError: no finished run.
        ValueError: the folder holds something else, the run's model answers with maps or for fields, the graph and PyTorch
            differ, held-out images that the run has seen, or too few held-out defects for the guarantee.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / NAME).is_file():
        raise ValueError(f"out={str(out)!r} holds something else than an exported model; give a new or an empty folder")
    recipe = recipe_of(run_folder)
    if recipe.name != "moderation" and (given := fpr or confidence or wrong_labels or held_out):
        raise ValueError(
            f"a run of {recipe.name} decides nothing: fpr, confidence, wrong_labels and held_out ({given}) are not for it"
        )
    if recipe.name == "denoise" and not (run_folder / "model" / "features.json").is_file():
        raise ValueError(
            f"{run_folder} learned from given features, and an exported model of texts makes its own: nothing is exported. "
            "Label new texts with tutelage predict --vectors"
        )
    loaded = recipe.load(run_folder)
    target = TARGETS[recipe.name](loaded, run_folder)
    spec: Any = target.module.spec
    further = None if held_out is None else further_images(run_folder, held_out, columns, spec)
    if target.input["kind"] == "text":
        material = texts_of(run_folder, target.classes or [])
    elif task is None:
        raise ValueError(f"task is None: the export of a run of {recipe.name} is checked on the run's own images")
    else:
        material = images_of(task, recipe.name)
    centres, subtasks = _centres(run_folder, target.module, material)
    served = Served(target.module, target.head, centres)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out, prefix=".export-") as folder:
        graph = Path(folder) / "graph.onnx"
        example = torch.from_numpy(material.inputs(material.test[:2]))
        write_graph(served, example, graph)
        logits = run_graph(graph, material.batches(material.test))[0]
        draft: dict[str, Any] = {"answer": dict(target.answer), "classes": target.classes}
        parity = _parity(served, material, logits)
        facts: dict[str, Any] | None = None
        if int8:
            smaller = Path(folder) / "int8.onnx"
            write_int8_graph(graph, lambda: material.batches(material.validation), smaller)
            exact, logits = logits, run_graph(smaller, material.batches(material.test))[0]
            facts = {"calibrated_on": len(material.validation), **lost(draft, exact, logits, material.labels)}
            facts["bytes"] = {"float32": graph.stat().st_size, "int8": smaller.stat().st_size}
            graph = smaller
        if recipe.name == "moderation":
            rate = loaded_rate(run_folder) if fpr is None else fpr
            more = None
            if further is not None:
                batches = (further.images.batch(part.tolist())["input"].numpy() for part in further.rows.split(BATCH))
                more = run_graph(graph, batches)[0], further.labels
            draft["answer"] |= {"subtasks": subtasks}
            told = read_parquet(run_folder / "examples.parquet")
            if told["id"].tolist() != task.table["id"].tolist():  # type: ignore[union-attr]  # not of denoise
                raise ValueError(
                    f"the data are not those of {run_folder}: other examples can be read now; run it again"
                )
            draft["answer"] |= thresholds(
                logits[material.labels >= 0],
                judged_test(run_folder),
                lambda each: moderation.load(run_folder, each)[1],
                rate,
                confidence,
                wrong_labels,
                more,
            )
        files = _placed(graph, run_folder / "model", out)
    card = write_card(
        out,
        {
            "recipe": recipe.name,
            "title": json.loads((run_folder / "metrics.json").read_text())["pipeline"]["title"],
            "tutelage": __version__,
            "input": target.input,
            **draft,
            "graph": next(name for name in files if name.endswith(".onnx")),
            "data": {"fingerprint": material.fingerprint},
            "parity": parity,
            "int8": facts,
            "metrics": json.loads((run_folder / "metrics.json").read_text()),
            "files": files,
        },
    )
    for stale in out.glob("graph-*.onnx"):
        if stale.name not in files:
            stale.unlink()
    return card


def run_graph(path: Path, batches: Iterable[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return a graph's outputs for all batches."""
    session = onnxruntime.InferenceSession(str(path))
    found = [session.run(None, {"input": batch}) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


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


def loaded_rate(run_folder: Path) -> float:
    """Return the false-positive rate at which a moderation run decides."""
    return float(json.loads((run_folder / "metrics.json").read_text())["pipeline"]["fpr"])


def _input(size: int, num_features: int | None) -> dict[str, Any]:
    """Say what the graph takes: images of a size, or so many numbers where the run was given features."""
    if num_features is not None:
        reads = "features as the run was given them, the first view of each example; this model reads no images"
        return {"kind": "features", "features": num_features, "values": "float32 (N, features)", "preprocessing": reads}
    resize = "upright RGB, transparency on white, both sides squeezed to the size, bicubic (tutelage.decoding.decode)"
    return {"kind": "image", "size": size, "pixels": "uint8 (N, 3, size, size)", "preprocessing": resize}


def _moderation(loaded: Any, run: Path) -> Target:
    model, _ = loaded
    takes = _input(model.spec.image_size, model.spec.num_features)
    return Target(model, None, takes, {"kind": "decision"}, ["defective", "acceptable"])


def _distill(loaded: Any, run: Path) -> Target:
    model, facts = loaded
    takes = _input(model.spec.image_size, model.spec.num_features)
    return Target(model, None, takes, {"kind": "class"}, list(facts["classes"]))


def _multilabel(loaded: Any, run: Path) -> Target:
    model, facts = loaded
    answer = {"kind": "labels", "threshold": facts["threshold"], "softmax": facts["softmax"]}
    return Target(model, None, _input(model.spec.image_size, model.spec.num_features), answer, list(facts["classes"]))


def _auxiliary(loaded: Any, run: Path) -> Target:
    if loaded.values:
        raise ValueError(f"{run} answers for fields of a table; what labels images or texts is exported")
    answer = {"kind": "answer", "number": loaded.task.kind == "regression"}
    return Target(
        loaded.model, loaded.task.name, _input(loaded.image_size, loaded.num_features), answer, loaded.classes
    )


def _denoise(loaded: Any, run: Path) -> Target:
    features = {"kind": "text", "features": loaded.model.spec.features}
    return Target(loaded.model, None, features, {"kind": "text"}, list(loaded.classes))


TARGETS = {
    "auxiliary": _auxiliary,
    "denoise": _denoise,
    "distill": _distill,
    "moderation": _moderation,
    "multilabel": _multilabel,
}
