"""From which weights does a model start? Its own setting says, or a stand-in for ImageNet that the task brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.data import TensorData
from tutelage.data.augment import augmentation
from tutelage.models import ModelSettings, build, save_model
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.signals import BinaryCrossEntropy, CrossEntropy
from tutelage.training import Budget, Log, Optimization, Plan, Stages, fit, seeds

ENCODER_BUDGET = Budget(steps=600)
ENCODER_TRAINING = Optimization(
    lr=2e-3, weight_decay=0.02, schedule="cosine", warmup=0.1, clip_norm=2.0, batch_size=128
)


def starts_from_encoder(model: ModelSettings, task: ModerationTask) -> bool:
    """Return whether a model starts from an encoder that is trained first; features need no further start."""
    return model.pretrained is None and task.pretraining is not None and task.images.num_features is None


def starting_weights(
    model: ModelSettings, task: ModerationTask, settings: ModerationSettings, stages: Stages, log: Log
) -> str | None:
    """Return the weights from which a model starts: its own setting, or the task's stand-in for ImageNet."""
    if not starts_from_encoder(model, task):
        return model.pretrained

    def work(folder: Path) -> dict[str, Any]:
        assert task.pretraining is not None
        images, labels = task.pretraining()
        classes = labels.shape[1] if labels.dim() == 2 else int(labels.max()) + 1
        kind = BinaryCrossEntropy if labels.dim() == 2 else CrossEntropy
        with seeds.fixed(0, model.name):
            network = build(model.spec(classes, settings.image_size))
        heads = ("cls", "dist") if network.distilled else (None,)
        fit(
            network,
            TensorData(input=images, label=labels),
            signals=[kind(head=head, name=f"label {head or ''}".strip()) for head in heads],
            plan=Plan(
                ENCODER_BUDGET,
                ENCODER_TRAINING,
                augment=augmentation(settings.augmentation),
                hardware=settings.hardware,
                out=folder,
                log=log,
                name=f"encoder {model.name}",
            ),
        )
        save_model(network, folder)
        return {"model": model.name}

    name = f"encoder-{model.name}"
    training = [ENCODER_BUDGET, ENCODER_TRAINING]
    cache_key = [model, settings.image_size, settings.augmentation, *training, task.family]
    return str(stages.run(name, work, cache_key=cache_key).folder / "model.safetensors")
