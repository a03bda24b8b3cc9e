"""The student in closed form: a ridge classifier of an encoder's features, on the labels alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tutelage.data.encoded import EncodedTable
from tutelage.files import save_tensors
from tutelage.models import ModelSettings, joint_logits, save_model
from tutelage.recipes.distill.pipeline import LABEL, Pipeline
from tutelage.recipes.distill.taught import Taught
from tutelage.subtasks.ridge_classifier import ridge_classifier
from tutelage.training import predict

RIDGE = "ridge"
"""Its name among the methods; it is plain training where there is an encoder."""


def ridge(pipeline: Pipeline) -> Taught:
    """Fit a ridge classifier of the features to the labels alone, those of the validation part too.

    What it says of an image that it knows is by all labels but that image's own, so that validation can judge it.
    """
    images = pipeline.task.images
    assert isinstance(images, EncodedTable)
    known, classes = pipeline.rows("train", "held_out", "val"), len(pipeline.task.classes)

    def work(folder: Path) -> dict[str, Any]:
        fitted = ridge_classifier(images.features.gather(known)[:, 0], pipeline.task.labels[known], classes)
        network = pipeline.new(ModelSettings("feature_mlp"), RIDGE).eval()
        head = network.backbone.get_classifier()
        head.weight.data.copy_(fitted.weight)
        head.bias.data.copy_(fitted.bias)
        save_model(network, folder / "model", classes=list(pipeline.task.classes))
        everything = images.subset(torch.arange(len(images)))
        outputs, _ = predict(network, everything, workers=pipeline.settings.hardware.workers, shared=True)
        logits = joint_logits(outputs).clone()
        logits[known] = fitted.without_own
        save_tensors({"logits": logits.contiguous()}, folder / "logits.safetensors")
        right = logits.argmax(1) == pipeline.task.labels
        return {"strength": fitted.strength, "val": float(right[pipeline.rows("val")].double().mean())}

    stage = pipeline.stages.run(
        f"student-{RIDGE}", work, cache_key=[pipeline.fingerprint, pipeline.settings.image_size]
    )
    logits = load_file(stage.folder / "logits.safetensors")["logits"]
    return Taught(stage.folder.name, logits, stage.folder / "model", None, [LABEL], stage.facts)
