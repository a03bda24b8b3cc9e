"""Every command, by name. Nothing is imported before a command is run, so that the list of commands appears at once."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Literal

OURS = {"settings", "out", "quiet"}
"""Parameters of a task's function that are no flags of their own."""


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        help: what it does, in one line.
        path: module and name, divided by a colon, of the function whose parameters are its flags. It returns the task of the
            recipe; where there is no recipe, it does what the command says.
        recipe: what is run on the task; its settings are further flags.
        scale: where the settings start by default.
        out: the run's folder by default; required where it is None.
    """

    help: str
    path: str
    recipe: str | None = None
    scale: Literal["auto", "pocket", "laptop", "paper"] = "auto"
    out: Path | None = None

    def load(self) -> Any:
        """Import the function."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)

    def parameters(self) -> dict[str, bool]:
        """Return the parameters that are flags, and whether each is required, so that it may be a leading bare word."""
        ours = OURS if self.recipe else set()
        found = signature(self.load()).parameters
        return {name: each.default is each.empty for name, each in found.items() if name not in ours}


COMMANDS = {
    "audit draw": Command(
        "Draw a sample of the ads that passed, by impressions, for moderators to judge.", "tutelage.cli.audit:draw"
    ),
    "audit report": Command("Report what the audits found, by variant and week.", "tutelage.cli.audit:report"),
    "audit serve": Command("Serve the page on which moderators judge.", "tutelage.cli.audit:serve"),
    "auxiliary": Command(
        "Train a model on a primary task with auxiliary tasks, each weighted in the modules that it helps.",
        "tutelage.recipes.auxiliary:auxiliary_task",
        "auxiliary",
    ),
    "completion": Command(
        "Print a script that completes commands and flags in bash, zsh or tcsh.",
        "tutelage.cli.completion:completion",
    ),
    "demo": Command(
        "Run moderate on digit posters: real handwritten digits that need no download.",
        "tutelage.recipes.moderation:demo_task",
        "moderation",
        scale="pocket",
        out=Path("runs/demo"),
    ),
    "denoise": Command(
        "Train a text classifier on labelling functions (rules) and a few labels.",
        "tutelage.recipes.denoise:text_task",
        "denoise",
    ),
    "distill": Command(
        "Train a small model on its labels and larger models, each weighted by how much it helps on each example.",
        "tutelage.recipes.distill:distill_task",
        "distill",
    ),
    "export": Command(
        "Write a run's model as ONNX and safetensors, checked against PyTorch, for scoring and serving.",
        "tutelage.cli.production:export",
    ),
    "moderate": Command(
        "Train a moderation model on a manifest of labelled images.",
        "tutelage.recipes.moderation:moderation_task",
        "moderation",
    ),
    "multilabel": Command(
        "Train a multi-label model on images with one label each, and find the labels that are missing.",
        "tutelage.recipes.multilabel:multilabel_task",
        "multilabel",
    ),
    "predict": Command("Apply a run's model to new images, texts or rows of a table.", "tutelage.cli.runs:predict"),
    "report": Command("Rewrite a run's report.html from the files in its folder.", "tutelage.cli.runs:report"),
    "review": Command(
        "Show the labels of a run that a person should check first, and read the answers.",
        "tutelage.cli.review:review",
    ),
    "score": Command(
        "Score a table of images or texts of any length with an exported model.",
        "tutelage.cli.production:score",
    ),
    "serve": Command(
        "Serve an exported model over HTTP, with a page to try it on.",
        "tutelage.cli.production:serve",
    ),
    "threshold": Command(
        "Find the threshold of a moderation run that guarantees a false-positive rate.",
        "tutelage.cli.production:threshold",
    ),
}
