"""A teacher that is given as a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tutelage.models import ImageClassifier, load_model
from tutelage.recipes.distill.task import DistillTask


def given_teacher(folder: Path, task: DistillTask) -> ImageClassifier:
    """Return the teacher of a folder.

    Raises:
        FileNotFoundError, ValueError: see `load_model`; it knows another number of classes than the data.
    """
    network, _ = load_model(folder)
    if task.images.num_features is not None:
        raise ValueError(
            f"teachers.folder={str(folder)!r} holds a model of images, and this run sees features of an encoder; leave the "
            "folder out"
        )
    if network.spec.num_classes != len(task.classes):
        raise ValueError(
            f"the teacher in {folder} has {network.spec.num_classes} classes, the data {len(task.classes)}"
        )
    return network


def bytes_of(folder: Path) -> str:
    """Return a hash of a model's weights."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16]
