"""What a recipe says of its own; all that recipes share is written once, beside this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd

from tutelage.data.problems import Problems
from tutelage.recipes.images import load_images_model, read_images
from tutelage.recipes.presets import Presets
from tutelage.recipes.target import Target
from tutelage.recipes.task import Task
from tutelage.reports.run_folder import RunFolder
from tutelage.training import Log

T = TypeVar("T", bound=Task)
S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True)
class Recipe(Generic[T, S, R]):
    """What a recipe has of its own.

    Attributes:
        name: as in `RECIPES`.
        presets: the scales at which it comes.
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
        target: from the run's folder to what is exported and served; None where nothing is.
        validation: the part on which an export is calibrated.
        decides: whether runs decide by a threshold at a false-positive rate, which a review of the test may correct: `load`
            takes ``fpr``, and returns the model and its threshold.
        rereads: whether a run's task is read again to export it; else its folder holds all that is needed.
        lacks: whether the labels in doubt are missing ones, and not wrong ones.
        encodes: whether ``settings.encoder`` may give features in the place of ``task.images``.
    """

    name: str
    presets: Presets[S]
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
    target: Callable[[Path], Target] | None = None
    validation: str = "val"
    decides: bool = False
    rereads: bool = True
    lacks: bool = False
    encodes: bool = False
