"""The settings of `tutelage auxiliary`, and the declaration of its tasks."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from tutelage.checks import check
from tutelage.data.augment import AugmentationName
from tutelage.models import ModelSettings, check_options
from tutelage.recipes.encoding import LAPTOP_ENCODER, EncoderSettings, check_unfreeze
from tutelage.recipes.input import Fits, any_heads
from tutelage.training import Budget, Hardware, Optimization
from tutelage.weighting import WEIGHTINGS
from tutelage.weighting.settings import AdaptSettings, check_names

Kind = Literal["classification", "regression", "segmentation", "map", "normals", "rotation", "l2"]
Method = Literal["single", "hpo"]
PLAIN = "single"
"""The primary loss alone, always a candidate."""
REFIT = "refit"
"""The importances that MAOAL has learned, and a training with them that has the held-out examples too."""
ENSEMBLE = "ensemble"
"""The mean of the networks that no other one surely beats, or of copies of one."""
EVIDENCE = 0.05
"""With which probability, at most, some useless task is listened to at one time."""


@dataclass(frozen=True)
class TaskSpec:
    """A task, from which its head and its loss are made.

    Args:
        name: Name of the task, its head and its loss.
        kind: Kind of task: classification (cross-entropy), regression (squared error), segmentation (a class for each pixel),
            map (a number for each pixel, absolute error), normals (a direction for each pixel, cosine), rotation (by how many
            quarters an image was turned, which needs no label), or l2 (the squared length of the parameters).
        column: Column of the labels; by default the task's name. An empty cell is a missing label.
        weight: Factor of the loss, before it is weighed by any method.
        head: Task whose head is used, such as for a second annotator's labels of the same question; by default its own.
    """

    name: str
    kind: Kind = "classification"
    column: str | None = None
    weight: float = 1.0
    head: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, f"task {self.name!r}", weight="(0, inf)")

    @property
    def target(self) -> str | None:
        """The batch's key of its labels; None for a task without any."""
        return None if self.kind == "l2" else "rotation" if self.kind == "rotation" else self.column or self.name


def declared(task: dict[str, Any]) -> TaskSpec:
    """Return the task that plain values declare.

    Raises:
        ValueError: no name, an unknown key or kind, or a weight that is no number.
    """
    known = [field.name for field in fields(TaskSpec)]
    if strange := sorted(set(task) - set(known)):
        raise ValueError(f"task {task} has the unknown key {strange[0]!r}; known: {', '.join(known)}")
    if not isinstance(task.get("name"), str):
        raise ValueError(f"task {task} has no name")
    return TaskSpec(**task)


@dataclass(frozen=True)
class BodySettings:
    """Network below the heads.

    Args:
        name: Name of a timm model, of a pocket model, or of feature_mlp, which reads an encoder's features; for categorical
            fields it is always autoint.
        pretrained: Initial weights: timm, or the path of a safetensors file; null starts from random weights.
        hidden: Units of a hidden layer in each head; null for linear heads.
        dropout: Dropout rate before the heads.
        options: Further arguments of the network, as plain values.
    """

    name: str = "pocket_resnet"
    pretrained: str | None = None
    hidden: int | None = None
    dropout: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "body", hidden="[1, 65536]", dropout="[0, 1)")
        check_options(self.name, self.options)


@dataclass(frozen=True)
class Shares:
    """Division of the examples that have no split, and the share of primary labels that is used.

    Args:
        test: Share of the examples, if the data have no test part.
        val: Share of the rest, if the data have no validation part; it selects a checkpoint and tunes constant weights.
        held_out: Share of the rest on which weights are learned; methods that learn none train on it.
        labels: Share of the primary labels outside validation and test that is used.
    """

    test: float = 0.2
    val: float = 0.1
    held_out: float = 0.1
    labels: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "shares", **dict.fromkeys(("test", "val", "held_out"), "(0, 1)"), labels="(0, 1]")

    @property
    def parts(self) -> dict[str, float]:
        """The shares of the parts, in the order in which they are drawn."""
        return {"test": self.test, "val": self.val, "held_out": self.held_out}


@dataclass(frozen=True)
class AuxiliarySettings:
    """Settings of a primary task with auxiliary losses. The defaults are those of the paper's experiments on images.

    Args:
        seed: Random seed for everything.
        weighting: How far each auxiliary loss counts: maoal, joint, amal, auxilearn, gradient_cosine, uncertainty, equal, fixed
            or any other weighting, each of which has a card in docs/methods.
        weighting_options: Its options, such as {constraint: relu}.
        weighting_defaults: Default options of weightings, by name; weighting_options overrides them.
        method: Instead of a weighting: single (the primary loss alone) or hpo (constant weights, tuned).
        adapt: When weights are learned.
        copies: Trainings of every network in the served mean, each from different initial weights.
        trials: Trainings of hpo.
        bounds: Smallest and largest weight that hpo tries.
        baselines: Methods to compare with: single, hpo, or names of weightings.
        image_size: Height and width of the images in pixels.
        encoder: Frozen encoder of images, whose features the network learns from instead of pixels; maps need pixels.
        unfreeze: Part of the encoder to train at the end: last trains its last block and the networks on the images, for
            a few passes, and keeps the result if it is better on validation; null trains none of it.
        augmentation: Data augmentation: randaugment, shift or light (for images of a few pixels), or none.
        turned: Share of the training images to rotate if the rotation is predicted; 0.75 makes all four equally likely.
        shares: Division of the examples.
        body: Network below the heads.
        training: Optimisation.
        budget: Training budget.
        hardware: Precision, compilation, data-loading workers and trackers.
    """

    seed: int = 0
    weighting: str = "maoal"
    weighting_options: dict[str, Any] = field(default_factory=dict)
    weighting_defaults: dict[str, dict[str, Any]] = field(
        default_factory=lambda: by_modules(EVIDENCE, meta_optimizer={"lr": 1e-2, "weight_decay": 5e-4})
    )
    method: Method | None = None
    adapt: AdaptSettings = AdaptSettings()
    copies: int = 1
    trials: int = 10
    bounds: tuple[float, float] = (1e-3, 1.0)
    baselines: tuple[str, ...] = ("single", "equal")
    image_size: int = 224
    encoder: EncoderSettings = EncoderSettings()
    unfreeze: Literal["last"] | None = None
    augmentation: AugmentationName = "none"
    turned: float = 0.75
    shares: Shares = Shares()
    body: BodySettings = BodySettings("resnet18")
    training: Optimization = Optimization(
        optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, schedule="cosine", batch_size=32
    )
    budget: Budget = Budget(epochs=200)
    hardware: Hardware = Hardware()

    def __post_init__(self) -> None:
        """Check the values that would otherwise fail late."""
        check(self, image_size="[1, 8192]", turned="[0, 1]", copies="[1, 30]", trials="[1, inf)", bounds="(0, inf)")
        check_unfreeze(self)
        if self.method is not None and self.weighting_options:
            raise ValueError(f"weighting_options={self.weighting_options} are of no use with method={self.method!r}")
        named = [name for name in self.baselines if name not in get_args(Method)]
        check_names(self, named)
        for name in (self.weighting, *named):
            if WEIGHTINGS[name].shows_wrong_labels:
                raise ValueError(
                    f"weighting {name!r} learns from held-out examples with wrong classes, and tasks of several kinds have no "
                    "classes in common; take another, such as maoal"
                )

    @property
    def models(self) -> dict[str, tuple[ModelSettings, Fits]]:
        """The models that see images, each by its name, and what it must fit."""
        body = self.body
        return {"body": (ModelSettings(body.name, body.pretrained, body.dropout, body.options), any_heads)}

    @property
    def chosen(self) -> str:
        """The name of what the losses are learned by: the method, or else the weighting."""
        return self.method or self.weighting

    @property
    def trained(self) -> tuple[str, ...]:
        """By what networks are trained: what was asked for, the baselines, and always the primary loss alone.

        MAOAL's importances are learned on examples that are lost for training, so a network is trained with them on all, too.
        """
        again = (REFIT,) if self.chosen == "maoal" else ()
        return tuple(dict.fromkeys((self.chosen, *again, *self.baselines, PLAIN)))


def by_modules(evidence: float | None = None, **options: Any) -> dict[str, dict[str, Any]]:
    """Return options of the weightings that tell modules apart, the first of which may ask for evidence."""
    return {"maoal": {**options, **({} if evidence is None else {"evidence": evidence})}, "joint": options}


def laptop() -> AuxiliarySettings:
    """Return the settings for features of a frozen encoder: minutes on a CPU once the features are there."""
    return AuxiliarySettings(
        augmentation="randaugment",
        encoder=LAPTOP_ENCODER,
        shares=Shares(held_out=0.2),  # which the training with the importances has again
        body=BodySettings("feature_mlp", dropout=0.1, options={"widths": [256, 256]}),
        training=Optimization(lr=1e-3, weight_decay=0.02, schedule="cosine", warmup=0.1, clip_norm=2.0, batch_size=128),
        budget=Budget(epochs=30, least_steps=100),
        weighting_defaults=by_modules(EVIDENCE, constraint="relu", meta_optimizer={"lr": 0.05}),
        adapt=AdaptSettings(every=5),
        copies=3,
        trials=4,
    )


def pocket() -> AuxiliarySettings:
    """Return the settings for small images on a CPU: minutes in all."""
    return AuxiliarySettings(
        image_size=24,
        augmentation="light",
        body=BodySettings("pocket_resnet"),
        training=Optimization(lr=2e-3, weight_decay=0.02, schedule="cosine", warmup=0.1, clip_norm=2.0, batch_size=64),
        budget=Budget(epochs=15, least_steps=100),
        weighting_defaults=by_modules(EVIDENCE, constraint="relu", meta_optimizer={"lr": 0.05}),
        adapt=AdaptSettings(every=5),
        trials=4,
    )


def tabular() -> AuxiliarySettings:
    """Return the settings for categorical fields of a table: seconds for each network, as its steps are cheap.

    Validation chooses the checkpoint, so that more steps cost time alone. With 105, which 15 passes over 480 rows are, what two
    fields say together was not learned; with 2,000 it was.
    """
    return replace(pocket(), budget=Budget(epochs=15, least_steps=2000))
