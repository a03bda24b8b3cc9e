"""From texts, rules and a few labels to a classifier, its report, and what to label next."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from tutelage import distributed
from tutelage.data.text import Features, read_features
from tutelage.data.text_table import TextColumns, read_texts
from tutelage.models import RuleModel
from tutelage.recipes.base import begin
from tutelage.recipes.denoise.evaluation import evaluate, examples_table, label_next, rules_table, trust_table
from tutelage.recipes.denoise.methods import METHODS, Trained, train
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.recipes.denoise.task import RuleTask, unipolar
from tutelage.reports import write_denoise_report
from tutelage.training import Log, Stages, predict
from tutelage.training.checkpoint import write_atomically
from tutelage.training.stages import plain


@dataclass(frozen=True)
class Denoised:
    """Where a run's results lie, and its figures."""

    folder: Path
    metrics: dict[str, Any]
    report: Path


def denoise(
    task: RuleTask, settings: DenoiseSettings, out: Path, *, told: dict[str, Any] | None = None, quiet: bool = False
) -> Denoised:
    """Train a classifier on labels and rules, and the same one on the labels alone; compare, explain, report.

    A run that was killed goes on where it was. The figures do not depend on it.

    Args:
        task: what is learned from.
        settings: how.
        out: the run's folder: config.yaml, log.jsonl, metrics.json, model/, report.html, examples.parquet, rules.parquet,
            trust.parquet, votes.parquet, label_next.csv, problems.csv, and of AMAL weights.parquet.
        told: further values for config.yaml, such as the files that a command was given.
        quiet: say nothing on the terminal.

    Raises:
        ValueError: there is nothing for the method to learn from.
        Interrupted: SIGTERM or Ctrl-C came; run it again to go on.
    """
    first = distributed.join()
    log = begin(out, settings, told, first=first, quiet=quiet)
    if first:
        task.problems.write(out)  # at once: it also explains a run that comes to no end
    covered = task.votes.covered.mean()
    log.say(f"{task.title}: {len(task.table)} texts, {len(task.votes.names)} rules that vote on {covered:.0%} of them")
    if task.failures:
        failed = ", ".join(f"{name} on {count}" for name, count in task.failures.items())
        log.say(f"rules that failed: {failed} texts; see problems.csv")
    trained = trained_stage(task, settings, out, log)
    alone = trained_stage(task, replace(settings, method="only_labels"), out, log)
    if first:  # of a former run with other settings
        (out / "weights.parquet").unlink(missing_ok=True)
        shutil.rmtree(out / "model", ignore_errors=True)
    distributed.barrier()
    trained.weighting.export(out / "weights.parquet", trained.signals, task.table["id"].tolist())
    if first:
        _finish(task, settings, out, trained, alone)
    distributed.barrier()
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    ours, theirs, rules = (metrics["test"][name]["macro_f1"] for name in ("model", "labels_alone", "majority"))
    log.say(
        f"macro F1: {ours['value']:.3f} [{ours['low']:.3f}, {ours['high']:.3f}]; labels alone {theirs['value']:.3f} "
        f"[{theirs['low']:.3f}, {theirs['high']:.3f}]; majority of the rules {rules['value']:.3f}"
    )
    return Denoised(out, metrics, out / "report.html")


def _finish(task: RuleTask, settings: DenoiseSettings, out: Path, trained: Trained, alone: Trained) -> None:
    """Judge the models, and write what people look at."""
    metrics = evaluate(task, trained, alone, method=settings.method, seed=settings.seed)
    trust = trust_table(task, trained)
    examples_table(task, trained, alone).to_parquet(out / "examples.parquet", index=False)
    trust.to_parquet(out / "trust.parquet", index=False)
    rules_table(task, trust).to_parquet(out / "rules.parquet", index=False)
    task.votes.write(out / "votes.parquet", task.table["id"].tolist())
    label_next(task, settings.suggest).to_csv(out / "label_next.csv", index=False)
    trained.model.save(out / "model", classes=task.classes)
    if task.transform is not None:
        task.transform.save(out / "model")
    text = json.dumps(plain(metrics), indent=1, ensure_ascii=False)
    write_atomically(out / "metrics.json", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    write_denoise_report(out)


def trained_stage(task: RuleTask, settings: DenoiseSettings, out: Path, log: Log) -> Trained:
    """Train a method in a stage of its own, or find it done, and return what it says of every text."""
    stages = Stages(out, log)
    name = settings.method.replace("_", "-")

    def work(folder: Path) -> dict[str, Any]:
        trained = train(task, settings, out=folder, log=log)
        trained.model.save(folder)
        trained.weighting.save(folder / "weighting.safetensors")
        return {"validation": trained.validation, "signals": trained.signals}

    relevant = {key: value for key, value in asdict(settings).items() if key not in ("parts", "suggest", "features")}
    stage = stages.run(name, work, cache_key=[task.fingerprint(), relevant])
    folder, facts = stage.folder, stage.facts
    model, _ = RuleModel.load(folder)
    columns = unipolar(task.votes)
    outputs, _ = predict(model, task.data(columns))
    assert isinstance(outputs, dict)
    weighting = METHODS[settings.method].weighting(settings, len(task.table), len(facts["signals"]))
    weighting.load(folder / "weighting.safetensors")
    return Trained(model, columns, outputs, weighting, facts["signals"], facts["validation"])


def score(
    run: Path, data: Path, out: Path, *, features: Path | None = None, columns: TextColumns | None = None
) -> tuple[Any, Any]:
    """Label new texts with a run's classifier; rules are not needed.

    Args:
        run: a run's folder.
        data: a .csv, .tsv or .parquet file with a column ``text``.
        out: a .parquet or .csv file: id, text, label, probability, and each class's probability.
        features: a file of features, one row a text, for a run that was given features.
        columns: the file's own names.

    Returns:
        The table that was written, and what was left out (listed beside it, in a CSV file ending in ``-problems``).

    Raises:
        FileNotFoundError: no such run or file.
        ValueError: another ending than .parquet or .csv, or features that do not fit.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"out={str(out)!r} must end in .parquet or .csv")
    model, facts = RuleModel.load(run / "model")
    table, _, problems = read_texts(data, columns, labelled=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    listed = problems.write(out.parent, f"{out.stem}-problems.csv")
    problems.require(len(table), 1, "texts", listed.name)
    if features is not None:
        vectors = read_features(features, len(table))
    elif (run / "model" / "features.json").is_file():
        vectors = Features.load(run / "model")(table["text"].tolist())
    else:
        raise ValueError(f"{run} learned from given features; score new texts from Python: score(..., features=)")
    if vectors.shape[1] != model.spec.features:
        raise ValueError(
            f"the features of the new texts are {vectors.shape[1]} wide, those of {run} {model.spec.features}"
        )
    probabilities = _probabilities(model.classifier, vectors)
    classes = facts["classes"]
    table = table[["id", "text"]].assign(
        label=[classes[number] for number in probabilities.argmax(1)],
        probability=probabilities.max(1),
        **{f"probability of {name}": probabilities[:, number] for number, name in enumerate(classes)},
    )
    table.to_parquet(out, index=False) if out.suffix == ".parquet" else table.to_csv(out, index=False)
    return table, problems


def _probabilities(classifier: nn.Module, vectors: Any, size: int = 1024) -> Any:
    parts = []
    with torch.no_grad():
        for start in range(0, vectors.shape[0], size):
            part = vectors[start : start + size]
            dense = torch.from_numpy(np.ascontiguousarray(part.toarray() if hasattr(part, "toarray") else part))
            parts.append(classifier(dense).double().softmax(1).numpy())
    return np.concatenate(parts)


def score_run(run: Path, data: Path, out: Path, *, fpr: float | None, columns: Any) -> str:
    """Label new texts as `score` does, and return a sentence about it; columns are named as they were for the run.

    Raises:
        ValueError: a false-positive rate, at which only moderation decides.
    """
    if fpr is not None:
        raise ValueError(f"fpr={fpr}: a run of denoise gives each text its likeliest class, and decides at no rate")
    told = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) if (run / "config.yaml").is_file() else {}
    named = TextColumns(**told.get("columns", {}))
    if columns.id != "id":
        named = replace(named, id=columns.id)
    table, problems = score(run, data, out, columns=named)
    counts = ", ".join(f"{count} {name}" for name, count in table["label"].value_counts().items())
    return f"{len(table)} texts labelled: {counts}; {problems.summary()}. Written to {out}"
