"""One run, one prediction and one report for all recipes: a recipe says only what is its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import pandas as pd
import torch
from torch import Tensor

from tutelage import distributed
from tutelage.checks import nearest
from tutelage.configured import plain
from tutelage.data.image_table import features_table
from tutelage.data.manifest import Columns, read_image_folder, read_manifest
from tutelage.data.problems import Problems
from tutelage.data.table import ImageTable
from tutelage.files import read_parquet, write_atomically, write_table
from tutelage.models import joint_logits, load_model
from tutelage.recipes.base import Scale
from tutelage.recipes.encoding import ELSEWHERE, encoded, outlined, unobtainable, with_features
from tutelage.recipes.relabel import FILE
from tutelage.recipes.run_lock import CONFIG, claimed, config_text
from tutelage.reports.page import write_report
from tutelage.reports.run_folder import RunFolder
from tutelage.training import Log
from tutelage.training import predict as outputs_of

RECIPES = {name: f"tutelage.recipes.{name}" for name in ("auxiliary", "denoise", "distill", "moderation", "multilabel")}
"""Each recipe's package, whose ``RECIPE`` it is; it is imported when the recipe is used."""


class Task(Protocol):
    """What a recipe learns from and is judged by."""

    @property
    def title(self) -> str:
        """A name for people."""

    @property
    def problems(self) -> Problems:
        """What was left out, and why."""

    @property
    def labels(self) -> Any:
        """The given labels, (N,); a dict of them where an example has several."""

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of these splits, ascending."""

    def judged_by(self) -> Tensor:
        """Return the labels that the test is judged by, (N, ...): the true ones where they are known."""

    def fingerprint(self) -> str:
        """Return a hash of what training sees."""


T = TypeVar("T", bound=Task)
S = TypeVar("S")
R = TypeVar("R")


def load_images_model(run: Path) -> Any:
    """Return the image model of a run's folder and its facts."""
    return load_model(run / "model")


def read_images(loaded: Any, data: Path, columns: Columns | None) -> tuple[ImageTable, Problems]:
    """Read the images of a manifest or of a folder, without labels, in a loaded model's size, or the features that it reads."""
    model, _ = loaded
    if model.spec.num_features is not None:
        return features_table(data, model.spec.num_features), Problems()
    if data.is_dir():
        return read_image_folder(data, None, size=model.spec.image_size)
    return read_manifest(data, columns, labels=None, size=model.spec.image_size)


def logits_of(loaded: Any, images: ImageTable) -> Tensor:
    """Return a loaded image model's logits, (N, C) in float64."""
    outputs, _ = outputs_of(loaded[0], images.subset(torch.arange(len(images))), batch_size=256)
    return joint_logits(outputs).double()


def named(images: ImageTable) -> pd.DataFrame:
    """Return the columns by which people know the examples: id, and image where there are images."""
    table = images.table
    return table.assign(id=table.get("own_id", table["id"])).filter(items=["id", "image"])


@dataclass(frozen=True)
class Recipe(Generic[T, S, R]):
    """What a recipe has of its own.

    Attributes:
        name: as in `RECIPES`.
        presets: for each scale the settings and a phrase that describes them.
        rehearse: from (task, settings) to nothing: tries every training on two examples (see `tutelage.training.rehearse`), so
            that what cannot work is refused before anything long. Nothing is written by then.
        train: from (task, settings, run's folder, log) to whatever `evaluate` reads. All processes call it; each training is a
            stage, so that a killed run goes on where it was.
        evaluate: from (task, settings, trained, run's folder) to what metrics.json holds, a function of its arguments, without
            times or paths. It writes ``model/`` and the tables; only the main process calls it.
        closing: from the metrics, what is said in the end, line by line.
        answer: from (loaded model, examples) to a table with one row an example.
        summary: from the table of answers to a phrase about it.
        view: from the run's folder to the values of ``reports/NAME.html``.
        doubts: from the run's folder to the labels that a person should check first; see `relabel_table`.
        load: from the run's folder, and `options` by name, to the loaded model.
        read: from (loaded model, file, columns) to new examples and what was left out of them.
        examples: what they are called.
        options: the options of `predict` that `load` takes.
        auto: the scale that auto is, where that does not depend on the hardware.
        small: built-in data of a few pixels, for which auto is pocket on any hardware.
        unencoded: built-in data of which no encoder makes features, for which auto is not laptop.
        tabular: for a table whose input are fields, the settings that auto and pocket are, on any hardware, and their phrase.
        encodes: whether ``settings.encoder`` may give features in the place of ``task.images``.
    """

    name: str
    presets: Mapping[Scale, tuple[S, str]]
    rehearse: Callable[[T, S], None]
    train: Callable[[T, S, Path, Log], R]
    evaluate: Callable[[T, S, R, Path], dict[str, Any]]
    closing: Callable[[dict[str, Any]], Sequence[str]]
    answer: Callable[[Any, Any], pd.DataFrame]
    summary: Callable[[pd.DataFrame], str]
    view: Callable[[RunFolder], dict[str, Any]]
    doubts: Callable[[Path], pd.DataFrame] | None = None
    load: Callable[..., Any] = load_images_model
    read: Callable[..., tuple[Any, Problems]] = read_images
    examples: str = "images"
    options: tuple[str, ...] = ()
    auto: Scale | None = None
    small: tuple[str, ...] = ("digits",)
    unencoded: tuple[str, ...] = ()
    tabular: tuple[S, str] | None = None
    encodes: bool = False

    def preset(
        self,
        scale: Literal["auto"] | Scale,
        data: str | None = None,
        encoder: str | None = None,
        *,
        fields: bool = False,
    ) -> tuple[S, str]:
        """Return the settings of a scale for some data, and a sentence that says what was chosen and why.

        Args:
            scale: a scale, or auto: paper with an accelerator, else laptop where its encoder can be had, else pocket.
            data: the data that a command was given.
            encoder: the encoder that it was given, by its weights or its name: laptop's, then.
            fields: whether its data are fields of a table.

        Raises:
            ValueError: the recipe does not come at this scale.
        """
        if fields and self.tabular is not None and scale in ("auto", "pocket"):
            settings, phrase = self.tabular
            return settings, f"scale pocket: {phrase}" if scale == "pocket" else f"scale auto is pocket ({phrase})"
        if scale != "auto":
            if scale not in self.presets:
                raise ValueError(f"scale={scale!r}: {self.name} comes at {', '.join(self.presets)}")
            settings, phrase = self.presets[scale]
            return settings, f"scale {scale}: {phrase}"
        chosen, why = self._fitting(data, encoder)
        settings, phrase = self.presets[chosen]
        return settings, f"scale auto is {chosen} ({phrase}){why and ', since '}{why}"

    def _fitting(self, data: str | None, encoder: str | None) -> tuple[Scale, str]:
        """Return the scale that auto is, and why."""
        fixed: Scale | None = "pocket" if data in self.small else self.auto
        if fixed:
            return fixed, ""
        if "laptop" in self.presets and encoder is not None:
            return "laptop", f"features come from {encoder!r}"
        if torch.accelerator.is_available():
            return "paper", "there is an accelerator"
        if "laptop" not in self.presets or data in self.unencoded:
            return "pocket", "there is no accelerator"
        settings: Any = self.presets["laptop"][0]
        if reason := unobtainable(settings.encoder):
            return "pocket", f"there is no accelerator and {reason}. For useful figures {ELSEWHERE}"
        return "laptop", "there is no accelerator"


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run: its folder, its figures (as in metrics.json), and its report, which a notebook shows."""

    folder: Path
    metrics: dict[str, Any]
    report: Path

    def __repr__(self) -> str:
        """Return what the run says in the end."""
        pipeline = self.metrics["pipeline"]
        told = load(pipeline["recipe"]).closing(self.metrics)
        return "\n  ".join([f"{pipeline['recipe']}: {pipeline['title']}", *told, f"report: {self.report}"])

    def _repr_html_(self) -> str:
        """Return the report in a frame of its own, so that its style and scripts stay there."""
        text = escape(self.report.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{text}" title="report" style="width: 100%; height: 80vh; border: 0"></iframe>'


def load(name: str) -> Recipe[Any, Any, Any]:
    """Import a recipe.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe={name!r} is not one of {', '.join(RECIPES)}{nearest(name, RECIPES)}")
    return import_module(RECIPES[name]).RECIPE


def run(
    name: str,
    task: Task,
    settings: Any,
    out: Path,
    *,
    command_args: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Run:
    """Train by a recipe, evaluate, and write a report.

    A run that was killed goes on where it was, and finished stages are kept; the figures do not depend on it. Of several
    processes (``torchrun``) all train, and the main process writes.

    Args:
        name: a recipe, one of `RECIPES`.
        task: what is worked on, of the recipe's own kind.
        settings: the recipe's settings.
        out: the run's folder: config.yaml, problems.csv, log.jsonl, stages/, the recipe's tables, each as Parquet and as CSV,
            model/, metrics.json (written when all others are there) and report.html.
        command_args: further values for config.yaml, such as the data that a command was given.
        quiet: print nothing.

    Raises:
        ValueError: the task cannot be worked on, a training cannot be done as the settings say, or the folder is not free for
            this run (see `claimed`), with what to do.
        Interrupted: SIGTERM or Ctrl-C came; run it again to go on.
    """
    recipe, out = load(name), Path(out)
    main = distributed.join(settings.hardware.patience)
    values = {**(command_args or {}), **asdict(settings)}
    with claimed(out, name, values) if main else nullcontext():
        distributed.barrier()  # with a folder that the main process has found fit
        recipe.rehearse(with_features(task, settings, outlined) if recipe.encodes else task, settings)
        log = Log(out / "log.jsonl", quiet=quiet)
        path = out / "metrics.json"
        if main:
            config = config_text(values)
            write_atomically(out / CONFIG, lambda temporary: temporary.write_text(config, encoding="utf-8"))
            task.problems.write(out)  # at once: it also explains a run that comes to no end
            for line in task.problems.warnings():
                log.say(line)
        if recipe.encodes:
            task = with_features(task, settings, encoded)
            if settings.encoder.features is not None:
                log.say(
                    f"features are those of {settings.encoder.features}: the model reads features, too, and no images"
                )
        trained = recipe.train(task, settings, out, log)
        if main:
            path.unlink(missing_ok=True)  # of a former run on other data, whose tables are overwritten now
            for former in out.glob("*.parquet"):  # of that one
                former.with_suffix(".csv").unlink(missing_ok=True)
            found = recipe.evaluate(task, settings, trained, out)
            for table in sorted(out.glob("*.parquet")):
                write_table(table.with_suffix(".csv"), read_parquet(table))
            pipeline = {"recipe": name, "title": task.title, "seed": settings.seed, **found.pop("pipeline", {})}
            text = json.dumps(plain({"pipeline": pipeline, **found}), indent=2) + "\n"
            write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
            if recipe.doubts is not None:
                write_table(out / FILE, recipe.doubts(out))
            report(out)
        distributed.barrier()
    metrics = json.loads(path.read_text(encoding="utf-8"))
    for line in recipe.closing(metrics):
        log.say(line)
    return Run(out, metrics, out / "report.html")


def recipe_of(run_folder: Path) -> Recipe[Any, Any, Any]:
    """Return the recipe that made a finished run.

    Raises:
        FileNotFoundError: the folder holds no metrics.json.
        ValueError: it does not say which recipe made it.
    """
    path = Path(run_folder) / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run_folder} holds no metrics.json: give the folder of a run that has finished")
    name = json.loads(path.read_text(encoding="utf-8"))["pipeline"].get("recipe")
    if name is None:
        raise ValueError(f"{path} names no pipeline.recipe, as an older version left it; run the same command again")
    return load(name)


def report(run_folder: Path) -> Path:
    """Write a finished run's report.html from the files in its folder, and return its path."""
    recipe = recipe_of(run_folder)
    return write_report(Path(run_folder), f"{recipe.name}.html", recipe.view)


def predict(
    run_folder: Path,
    data: Path,
    out: Path,
    *,
    columns: Any = None,
    fpr: float | None = None,
    vectors: Path | None = None,
) -> tuple[pd.DataFrame, Problems]:
    """Apply a finished run's model to new examples.

    Args:
        run_folder: the run's folder.
        data: a .csv or .parquet file as the run was trained on, or a folder of images; labels are not needed and not read. For
            a run that was given features, a file of those.
        out: the table to write, .csv, or .parquet with a .csv file of the same beside it. What could not be read is listed
            there too, in a CSV file whose name ends in ``-problems``.
        columns: the file's own names of its columns.
        fpr: of a moderation run: the false-positive rate at which it decides, between 0 and 1.
        vectors: of a denoise run that was given features: a file of those of the new texts.

    Returns:
        The table that was written (in CSV, what a list holds is divided by ``|``), and what was left out.

    Raises:
        FileNotFoundError: no such run or file.
        ValueError: another ending than .parquet or .csv, an option that the recipe does not take, or nothing to predict on.
    """
    run_folder, data, out = Path(run_folder), Path(data), Path(out)  # a program may give text
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"out={str(out)!r} must end in .parquet or .csv")
    recipe = recipe_of(run_folder)
    options = {name: value for name, value in (("fpr", fpr), ("vectors", vectors)) if value is not None}
    for name, value in options.items():
        if name not in recipe.options:
            raise ValueError(f"{name}={value}: a run of {recipe.name} has no use for it; leave {name} out")
    loaded = recipe.load(run_folder, **options)
    examples, problems = recipe.read(loaded, data, columns)
    out.parent.mkdir(parents=True, exist_ok=True)
    listed = problems.write(out.parent, f"{out.stem}-problems.csv")
    problems.require(len(examples), 1, recipe.examples, listed.name)
    table = recipe.answer(loaded, examples)
    write_table(out, table)
    write_table(out.with_suffix(".csv"), table)
    return table, problems
