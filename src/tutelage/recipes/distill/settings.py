"""Everything that `tutelage distill` can be told, and the two sizes at which it comes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tutelage.data.augment import AugmentationName
from tutelage.hypergradient import Strategy
from tutelage.models import ModelSpec
from tutelage.recipes.base import ModelSettings
from tutelage.training import Budget, Hardware, Optimization
from tutelage.weighting.partition import Level

Method = Literal[
    "ce",
    "kd",
    "dgkd",
    "equal",
    "hpo",
    "uncertainty",
    "gradient_cosine",
    "superloss",
    "crust",
    "learning_to_reweight",
    "meta_weight_net",
    "auxilearn",
    "maoal",
    "amal",
    "joint",
    "coreset",
]
Rule = Literal["random", "sum_of_squares", "difference", "ratio"]


@dataclass(frozen=True)
class TeacherSettings:
    """A teacher: trained here before the student, or read from a folder.

    Args:
        model: The architecture.
        folder: Folder of a finished model (model.safetensors and config.json), which is then neither trained nor changed.
        budget: How long it is trained; none is as long as the student. A short budget makes an early-stopped teacher.
        select: Keep its best weights on the validation part; else its last.
    """

    model: ModelSettings = ModelSettings("cifar_resnet110")
    folder: Path | None = None
    budget: Budget | None = None
    select: bool = True


@dataclass(frozen=True)
class NoiseSettings:
    """Wrong labels for experiments; the run reports how many really are wrong.

    Args:
        kind: symmetric (any other class), class_conditional (by a matrix), human (by people), or none.
        rate: Share of symmetric noise; of class_conditional noise without a matrix, where each class is taken for the next.
        matrix: CSV file of C x C numbers, P(label | class), a row for each class.
        column: Column of people's labels, such as worse_label of CIFAR-10N or noisy_label of CIFAR-100N.
        held_out: Whether labels are wrong in the held-out and the validation part, too.
        seed: Of the draw; none is the run's.
    """

    kind: Literal["none", "symmetric", "class_conditional", "human"] = "none"
    rate: float = 0.4
    matrix: Path | None = None
    column: str = "noisy_label"
    held_out: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the values that would otherwise fail late."""
        if not 0 <= self.rate <= 1:
            raise ValueError(f"noise.rate={self.rate} is a share, in [0, 1]")


@dataclass(frozen=True)
class Shares:
    """How images without a split are divided; the shares of what is not the test.

    Args:
        held_out: Share on which weights are learned.
        val: Share that selects.
        test: Share that judges, of all images where there is no test yet.
        seed: Of the division.
    """

    held_out: float = 0.05
    val: float = 0.05
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the shares."""
        if min(self.held_out, self.val, self.test) <= 0 or self.held_out + self.val >= 1 or self.test >= 1:
            raise ValueError(
                f"shares.held_out={self.held_out}, shares.val={self.val}, shares.test={self.test}: give positive shares that "
                "leave some for training"
            )


@dataclass(frozen=True)
class MixingSettings:
    """How the losses are weighed.

    Args:
        kd_weight: Weight of the teachers together in kd (the label has the rest), and in what superloss, crust and
            learning_to_reweight weigh;
            of each teacher in dgkd.
        keep: Of dgkd: probability with which a teacher is heard in a step.
        every: Training steps between two of the weights'. 10 is as often as the paper's sweep in every tenth epoch.
        held_out_batch_size: Held-out examples that one such step looks at.
        lr: Of amal and joint: root mean square of one step's changes; the authors' 1500 goes with normalise=false.
        normalise: Of amal: divide a step by its derivatives' root mean square.
        num_updates: Of amal: steps at each time; the authors make 5.
        init: Of amal and joint: first weights, one number or one for each loss; the authors start from 0.1 and 0.9.
        strategy: Of amal: how derivatives are taken; last_layer is the authors'.
        neumann_steps: Of maoal, joint and auxilearn: Hessian-vector products of the Neumann series; 0 looks one step ahead.
        level: Of maoal and joint: block, parameter or model.
        fraction: Of crust: share of each class that is kept.
        crust_start: Of crust: first epoch before which examples are chosen.
        regularisation: Of superloss: the smaller, the more the weights differ.
        trials: Of hpo: trainings.
    """

    kd_weight: float = 0.9
    keep: float = 0.75
    every: int = 10
    held_out_batch_size: int = 1000
    lr: float = 0.5
    normalise: bool = True
    num_updates: int = 1
    init: tuple[float, ...] = (1.0,)
    strategy: Strategy = "auto"
    neumann_steps: int = 3
    level: Level = "block"
    fraction: float = 0.5
    crust_start: int = 5
    regularisation: float = 0.25
    trials: int = 10

    def __post_init__(self) -> None:
        """Check the values that would otherwise fail late."""
        if not 0 < self.kd_weight < 1:
            raise ValueError(f"mixing.kd_weight={self.kd_weight} must be in (0, 1)")
        if not 0 < self.keep <= 1:
            raise ValueError(f"mixing.keep={self.keep} is a probability, in (0, 1]")
        for name in ("every", "held_out_batch_size", "trials"):
            if getattr(self, name) < 1:
                raise ValueError(f"mixing.{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True)
class CoresetSettings:
    """Training on a part of the examples, drawn by AMAL's weights (section 5.2 of the paper).

    Args:
        rule: What an example's probability is proportional to. sum_of_squares: the sum of its squared weights; difference: how
            far the label's and the teacher's differ; ratio: the teacher's over the label's, so wrong labels first where
            there are some; random: nothing.
        share: Share of the training examples.
    """

    rule: Rule = "sum_of_squares"
    share: float = 0.2

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 < self.share <= 1:
            raise ValueError(f"coreset.share={self.share} must be in (0, 1]")


@dataclass(frozen=True)
class DistillSettings:
    """From labelled images and teachers to a small model. The defaults are AMAL's.

    Args:
        seed: Of everything random but the division into parts.
        method: How the label and the teachers are weighed: ce (the label alone), kd (constant), dgkd (constant, each teacher
            heard in some steps only), equal, hpo (constant, tuned), uncertainty, gradient_cosine, superloss, crust,
            learning_to_reweight, meta_weight_net, auxilearn,
            maoal, amal, joint; or coreset.
        image_size: Height and width of the images in pixels.
        augmentation: crop_flip (CIFAR's), randaugment, shift, light, or none, with which teachers are asked once.
        noise: Wrong labels, for experiments.
        shares: How images without a split are divided.
        student: The student's model.
        teachers: One or more.
        temperature: Of distillation.
        mixing: How losses are weighed.
        coreset: What coreset draws.
        training: The optimisation, of teachers and student.
        budget: The student's budget.
        select: Keep the student's best weights on the validation part; else its last.
        train_on_held_out: Whether methods that learn no weights train on the held-out examples, too.
        baselines: With what the method is compared.
        hardware: Precision, compilation, workers, trackers.
    """

    seed: int = 0
    method: Method = "amal"
    image_size: int = 32
    augmentation: AugmentationName = "crop_flip"
    noise: NoiseSettings = NoiseSettings()
    shares: Shares = Shares()
    student: ModelSettings = ModelSettings("cifar_resnet8")
    teachers: tuple[TeacherSettings, ...] = (TeacherSettings(),)
    temperature: float = 4.0
    mixing: MixingSettings = MixingSettings()
    coreset: CoresetSettings = CoresetSettings()
    training: Optimization = Optimization(
        optimizer="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="milestones", batch_size=128
    )
    budget: Budget = Budget(epochs=240)
    select: bool = True
    train_on_held_out: bool = True
    baselines: tuple[Literal["ce", "kd"], ...] = ("ce", "kd")
    hardware: Hardware = Hardware()

    def __post_init__(self) -> None:
        """Check the values that would otherwise fail late."""
        if not self.teachers:
            raise ValueError("teachers is empty: give at least one, an architecture to train or the folder of a model")

    def spec(self, model: ModelSettings, classes: int) -> ModelSpec:
        """Return the spec of a model of this run."""
        return model.spec(classes, self.image_size)


def pocket() -> DistillSettings:
    """Return the settings for digits of 8 pixels and perceptrons: seconds on a CPU."""
    training = Optimization(
        optimizer="sgd", lr=0.02, momentum=0.9, weight_decay=5e-4, schedule="milestones", warmup=0.05, batch_size=50
    )
    return DistillSettings(
        image_size=8,
        augmentation="none",
        shares=Shares(held_out=0.15, val=0.1),
        student=ModelSettings("pocket_mlp"),
        teachers=(
            TeacherSettings(ModelSettings("pocket_mlp", options={"widths": [128, 128]}), budget=Budget(epochs=6)),
        ),
        mixing=MixingSettings(every=4, held_out_batch_size=200),
        training=training,
        budget=Budget(epochs=40),
    )
