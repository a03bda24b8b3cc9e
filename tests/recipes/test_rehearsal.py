"""What cannot work is refused before anything long: no stage begins, and the message names the setting."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.faults.smallest import SMALLEST
from torch import nn

from tutelage import recipes
from tutelage.data import ImageArray, ImageTable, TensorData
from tutelage.models import ModelSettings, ModelSpec, build
from tutelage.recipes import auxiliary, distill, moderation, multilabel
from tutelage.recipes.auxiliary import BodySettings, auxiliary_task
from tutelage.recipes.distill import TeacherSettings, distill_task
from tutelage.recipes.moderation import moderation_task
from tutelage.recipes.multilabel import multilabel_task
from tutelage.signals import CrossEntropy
from tutelage.training import Budget, Optimization, rehearse

TASKS: dict[str, tuple[Any, Any]] = {}
HEADS = {"embed_dim": 16, "depth": 1, "num_heads": 3}
PATCH_16 = ModelSettings("deit_tiny_distilled_patch16_224", options={"depth": 1})
NO_FILE = ModelSettings("pocket_mlp", pretrained="nowhere.safetensors")
LATE: list[tuple[str, dict[str, Any], str]] = [
    ("auxiliary", {"body": BodySettings(options={"num_heads": 3})}, r"body.name='pocket_resnet', .*num_heads"),
    (
        "auxiliary",
        {"body": BodySettings("convnext_atto")},
        r"body.name='convnext_atto', image_size=8.*: tried on two examples, it fails",
    ),
    ("auxiliary", {"body": BodySettings(pretrained="nowhere.safetensors")}, r"pretrained='nowhere.safetensors'"),
    ("auxiliary", {"baselines": ("hpo",), "bounds": (1.0, 0.1)}, r"bounds=\(1.0, 0.1\) leave nothing to search"),
    ("denoise", {"labelled_share": 0.99}, r"share=0.99 of 16 must leave both groups a place"),
    (
        "distill",
        {"student": ModelSettings("pocket_vit", options=HEADS)},
        r"student.name='pocket_vit', .*'num_heads': 3.*: tried",
    ),
    ("distill", {"student": ModelSettings("pocket_deit")}, r"student.name='pocket_deit', image_size=8: .*two heads"),
    ("distill", {"student": NO_FILE}, r"pretrained='nowhere.safetensors'"),
    ("distill", {"teachers": (TeacherSettings(folder=Path("nowhere")),)}, r"nowhere/config.json does not exist"),
    (
        "distill",
        {"method": "coreset", "weighting": "learning_to_reweight", "baselines": ()},
        r"'learning_to_reweight' keeps no weights to draw a coreset by",
    ),
    (
        "moderation",
        {"student": PATCH_16, "specialist": ModelSettings("pocket_mlp"), "image_size": 7},
        r"student.name='deit_tiny.*', image_size=7.*: tried on two",
    ),
    (
        "moderation",
        {"student": ModelSettings("pocket_deit", options=HEADS)},
        r"student.options=\{.*'num_heads': 3\}: tried",
    ),
    ("moderation", {"student": ModelSettings("pocket_resnet")}, r"student.name='pocket_resnet'.*no distillation token"),
    ("moderation", {"student": ModelSettings("pocket_deit", pretrained="nowhere.safetensors")}, r"pretrained='nowhere"),
    (
        "moderation",
        {"specialist": ModelSettings("convnext_atto")},
        r"specialist.name='convnext_atto', image_size=24.*: tried on two",
    ),
    (
        "multilabel",
        {"model": ModelSettings("pocket_deit", options=HEADS)},
        r"model.options=\{.*'num_heads': 3\}: tried",
    ),
    ("multilabel", {"self_supervised": "nowhere.pth"}, r"self_supervised='nowhere.pth': there is no such file"),
    ("multilabel", {"budget": Budget(steps=4)}, r"interaction=3 and imitation=2 make generations of 5 steps"),
    ("multilabel", {"search.interactions": (3, 30)}, r"interaction=30 and imitation=2 make generations of 32 steps"),
]


def changed(settings: Any, **values: Any) -> Any:
    """Settings with some replaced, those in sections by their dotted names."""
    for name, value in values.items():
        section, _, inner = name.partition(".")
        settings = replace(
            settings, **{section: replace(getattr(settings, section), **{inner: value}) if inner else value}
        )
    return settings


def smallest(name: str, image_size: int | None = None) -> tuple[Any, Any]:
    """A recipe's smallest run; its images are cut where another size is asked for."""
    if name not in TASKS:
        TASKS[name] = SMALLEST[name]()
    task, settings = TASKS[name]
    if image_size is not None:
        whole = task.images.images.gather(range(len(task.images)))
        task = replace(task, images=ImageTable(ImageArray(whole[:, :, :image_size, :image_size]), task.images.table))
    return task, settings


def test_every_recipe_is_tried() -> None:
    assert {name for name, _, _ in LATE} == set(SMALLEST) == set(recipes.RECIPES)


@pytest.mark.parametrize(("name", "values", "message"), LATE, ids=lambda each: each if isinstance(each, str) else "")
def test_what_failed_late_is_refused_first(name: str, values: dict[str, Any], message: str, tmp_path: Path) -> None:
    task, settings = smallest(name, values.get("image_size"))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        recipes.run(name, task, changed(settings, **values), tmp_path / "run", quiet=True)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["run.json", "run.lock"]


@pytest.mark.parametrize("name", SMALLEST)
def test_what_works_is_not_refused_and_draws_nothing(name: str) -> None:
    task, settings = smallest(name)
    before = torch.get_rng_state()
    recipes.load(name).rehearse(task, settings)
    assert torch.equal(torch.get_rng_state(), before)


NO_TABLE = Path("nobody.csv")
SIDE = {"primary": {"name": "kind"}, "sides": ({"name": "colour"},)}
UNREAD: list[tuple[Callable[..., Any], Any, str]] = [
    (
        partial(auxiliary_task, str(NO_TABLE), **SIDE),
        replace(auxiliary.pocket(), body=BodySettings("pocket_resne")),
        r"body.name='pocket_resne': .*did you mean 'pocket_resnet'",
    ),
    (
        partial(auxiliary_task, str(NO_TABLE), **SIDE),
        replace(auxiliary.pocket(), body=BodySettings(pretrained="nowhere.safetensors")),
        r"pretrained='nowhere.safetensors'",
    ),
    (
        partial(distill_task, str(NO_TABLE)),
        replace(distill.pocket(), student=ModelSettings("cifar_resnet9")),
        r"student.name='cifar_resnet9': .*did you mean 'cifar_resnet",
    ),
    (
        partial(distill_task, str(NO_TABLE)),
        replace(distill.pocket(), teachers=(TeacherSettings(ModelSettings("pocket_deit")),)),
        r"teachers.0.model.name='pocket_deit', image_size=8: .*two heads",
    ),
    (
        partial(distill_task, str(NO_TABLE)),
        replace(distill.pocket(), teachers=(TeacherSettings(folder=Path("nowhere")),)),
        r"nowhere/config.json does not exist",
    ),
    (
        partial(moderation_task, NO_TABLE),
        replace(moderation.pocket(), student=ModelSettings("pocket_dei")),
        r"student.name='pocket_dei': .*did you mean 'pocket_deit'",
    ),
    (
        partial(moderation_task, NO_TABLE),
        replace(moderation.pocket(), specialist=ModelSettings("convnext_atto"), image_size=7),
        r"specialist.name='convnext_atto', image_size=7: tried on two",
    ),
    (
        partial(moderation_task, NO_TABLE),
        replace(moderation.pocket(), student=ModelSettings("pocket_resnet", pretrained="timm")),
        r"student.name='pocket_resnet': pretrained='timm': timm has no weights",
    ),
    (
        partial(multilabel_task, str(NO_TABLE)),
        replace(multilabel.pocket(), model=ModelSettings("feature_mlp")),
        r"model.name='feature_mlp': .*does not fit the input",
    ),
    (
        partial(multilabel_task, str(NO_TABLE)),
        replace(multilabel.pocket(), self_supervised="nowhere.pth"),
        r"self_supervised='nowhere.pth': there is no such file",
    ),
]


@pytest.mark.parametrize(("read", "settings", "message"), UNREAD)
def test_a_model_is_refused_before_the_table_is_read(read: Callable[..., Any], settings: Any, message: str) -> None:
    """The table does not even exist, and would be refused next."""
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(settings=settings)


def test_a_large_model_is_tried_without_its_memory() -> None:
    """The paper's student, of 86 million weights."""
    examples = TensorData(input=torch.zeros(2, 3, 224, 224, dtype=torch.uint8))
    make = partial(build, ModelSpec("deit_base_distilled_patch16_224"))
    model = rehearse("student", make, examples, optimization=Optimization(encoder_lr=1e-5))
    assert sum(each.numel() for each in model.parameters()) > 85e6
    assert all(each.is_meta for each in model.parameters())


class Counting(nn.Module):
    """Asks how many numbers are positive, which the meta device cannot know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.layer(input) * int((input > 0).sum())


TRIED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str | None]] = {
    "works for real": (Counting, {"label": torch.tensor([0, 1])}, None),
    "a width": (lambda: nn.Linear(4, 2), {"label": torch.tensor([0, 1])}, "it fails: RuntimeError: .*shapes"),
    "a class": (
        lambda: nn.Linear(3, 2),
        {"label": torch.tensor([0, 2])},
        "the loss 'cross_entropy': tried on two examples, .* holds class 2",
    ),
    "no labels": (lambda: nn.Linear(3, 2), {}, "the loss 'cross_entropy': .*needs batch"),
    "nothing to train": (lambda: nn.Identity(), {"label": torch.tensor([0, 1])}, "training: .*no trainable parameter"),
}


@pytest.mark.parametrize("name", TRIED)
def test_a_training_of_one_s_own(name: str) -> None:
    make, columns, message = TRIED[name]
    examples = TensorData(input=torch.ones(2, 3), **columns)

    def go() -> None:
        rehearse("mine", make, examples, optimization=Optimization(), signals=[CrossEntropy()])

    if message is None:
        go()
        return
    with pytest.raises(ValueError, match=message):
        go()
