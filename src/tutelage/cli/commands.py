"""Every command, by name. Nothing is imported before a command is run, so that the list of commands appears at once."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        help: what it does, in one line.
        path: the module and the name of the dataclass whose fields are its flags, divided by a colon.
    """

    help: str
    path: str

    def load(self) -> Any:
        """Import the dataclass whose fields are the flags."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)


COMMANDS = {
    "auxiliary": Command(
        "Train a model on a primary task with auxiliary tasks, each weighed in the modules that it helps.",
        "tutelage.cli.auxiliary:Auxiliary",
    ),
    "demo": Command(
        "Run moderate on digit posters: real handwritten digits that need no download.", "tutelage.cli.moderation:Demo"
    ),
    "denoise": Command("Train a text classifier on labelling rules and a few labels.", "tutelage.cli.denoise:Denoise"),
    "distill": Command(
        "Train a small model on its labels and larger models, each weighed by how much it helps for each example.",
        "tutelage.cli.distill:Distill",
    ),
    "moderate": Command(
        "Train a moderation model on a manifest of labelled images.", "tutelage.cli.moderation:Moderate"
    ),
    "multilabel": Command(
        "Train a multi-label model on images with one label each, and find the labels that are missing.",
        "tutelage.cli.multilabel:Multilabel",
    ),
    "predict": Command("Apply a run's model to new images, texts or rows of a table.", "tutelage.cli.runs:Predict"),
    "report": Command("Write a run's report.html again from the files in its folder.", "tutelage.cli.runs:Report"),
}
