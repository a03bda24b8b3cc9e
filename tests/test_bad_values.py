"""Every value that cannot be meant is refused where it is given, in Python and on the command line, by the field's name."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch.nn import Linear
from torch.optim import SGD
from torch.utils.data import DataLoader

from tutelage.cli import main
from tutelage.data import Limits, SplitSettings, TensorData, endless
from tutelage.data.text import FeatureSettings
from tutelage.generations import (
    AssistantSettings,
    BornAgainSettings,
    IncrementalSettings,
    IteratedSettings,
    NoisyStudentSettings,
    SelfTrainingSettings,
    SSKDSettings,
)
from tutelage.models import ModelSpec, MultiHeadSpec, RuleModelSpec
from tutelage.recipes.auxiliary.settings import AuxiliarySettings, TaskSpec
from tutelage.recipes.denoise.settings import DenoiseSettings
from tutelage.recipes.distill.settings import DistillSettings
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.multilabel.settings import MultilabelSettings
from tutelage.signals import (
    BinaryCrossEntropy,
    CrossEntropy,
    Distillation,
    EarlyLearning,
    Objective,
    PixelCrossEntropy,
    PseudoLabels,
)
from tutelage.subtasks import (
    DiscoverySettings,
    LessonSettings,
    SelectionSettings,
    SpecialistSettings,
    StudentSettings,
)
from tutelage.training import Budget, Hardware, Optimization, Plan, fit
from tutelage.weighting import AMAL, CRUST, MAOAL, GradientCosine, MetaOptimizer, SuperLoss, Uncertainty, sweep
from tutelage.weighting.verified import WrongLabels

NAN, INF = math.nan, math.inf
ROOTS = (
    *(AuxiliarySettings(), DenoiseSettings(), DistillSettings(), ModerationSettings(), MultilabelSettings()),
    *(AssistantSettings(), BornAgainSettings(), IncrementalSettings(), NoisyStudentSettings(), SelfTrainingSettings()),
    *(SSKDSettings(), Plan(Budget(epochs=1)), Limits(), TaskSpec("kind"), MetaOptimizer()),
    *(ModelSpec("pocket_vit"), MultiHeadSpec("pocket_vit", {"kind": 2}), RuleModelSpec(4, (0, 1), 2)),
)


def parts(settings: Any) -> Iterator[Any]:
    """The settings, and the settings in them."""
    yield settings
    for each in fields(settings):
        for value in (
            getattr(settings, each.name),
            *(getattr(settings, each.name) if isinstance(getattr(settings, each.name), tuple) else ()),
        ):
            if is_dataclass(value):
                yield from parts(value)


EVERY = {type(part): part for root in ROOTS for part in parts(root)}


def nonsense(kind: Any) -> list[Any]:
    """Values that a field of this annotation never takes."""
    inside = get_args(kind)
    if get_origin(kind) is Literal:
        return [f"{inside[0]}s", str(inside[0]).upper() + "!", None, 3]
    if kind is bool:
        return ["yes", 1, None]
    if kind is int:
        return [1.5, "3", True, NAN, INF, None]
    if kind is float:
        return [NAN, INF, -INF, "0.5", True, None]
    if kind is str:
        return [3, None]
    if get_origin(kind) in (tuple, list):
        of = inside[0]
        return [3, "ab", None, *((each,) for each in nonsense(of))] if of is not Any else [3]
    if type(None) in inside:
        return [v for each in inside for v in nonsense(each) if v is not None and len(inside) == 2]
    return ["nonsense"] if is_dataclass(kind) else []


def described() -> Iterator[tuple[type, str, Any]]:
    for kind in EVERY:
        for name, annotation in get_type_hints(kind).items():
            if name not in kind.__dataclass_fields__:
                continue
            yield from ((kind, name, value) for value in nonsense(annotation))


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: f"{kind.__module__.split('.')[-2]}.{kind.__name__}")
def test_a_value_of_another_kind_is_refused(kind: type) -> None:
    cases = [(name, value) for owner, name, value in described() if owner is kind]
    assert cases
    for name, value in cases:
        with pytest.raises(ValueError, match=rf"{name}={re.escape(repr(value))} must be "):
            replace(EVERY[kind], **{name: value})


COUNT, SHARE = (0, -1), (-0.1, 1.1)
OUT_OF_RANGE: dict[type, dict[str, tuple[Any, ...]]] = {
    Optimization: {
        "lr": (0.0, -1e-3),
        "encoder_lr": (0.0, -1e-3),
        "weight_decay": (-1.0,),
        "momentum": (2.0, 1.0, -0.1),
        "warmup": (1.0, -0.1),
        "clip_norm": (0.0, -1.0),
        "batch_size": COUNT,
    },
    Budget: {"epochs": COUNT, "steps": COUNT},
    Hardware: {"workers": (-1,)},
    Plan: {"adapt_every": COUNT, "held_out_batch_size": COUNT},
    MetaOptimizer: {
        "lr": (0.0, -1.0),
        "momentum": (2.0,),
        "betas": ((2.0, 2.0), (0.9, 1.0), (-0.1, 0.9), (0.9,), (0.9, 0.9, 0.9)),
        "weight_decay": (-1.0,),
        "clip_norm": (0.0, -1.0),
    },
    ModelSpec: {"image_size": (0, -8, 10**9), "num_classes": (-1,), "dropout": (1.0, -0.1)},
    MultiHeadSpec: {"image_size": (0, -8), "outputs": ({"kind": 0},), "hidden": COUNT},
    SplitSettings: {"train": (0.0, -1.0), "teacher_val": SHARE, "gap_days": (-1.0,), "burst_days": (-1.0,)},
    Limits: {"max_bytes": COUNT, "max_aspect": (0.5,)},
    FeatureSettings: {"min_count": COUNT, "max_features": COUNT, "ngrams": ((0, 2), (1,), (1, 2, 3))},
    DiscoverySettings: {
        "subtasks": COUNT,
        "lam": (0.0, -1.0),
        "epochs": COUNT,
        "relabel_every": COUNT,
        "settled_share": SHARE,
        "minimum_size": SHARE,
    },
    SpecialistSettings: {"epochs": COUNT, "balance": SHARE, "smoothing": (1.0, -0.1)},
    SelectionSettings: {"flagged": (1.0, -0.1), "fpr": (1.0, -0.1), "window": COUNT},
    LessonSettings: {"contradicted": SHARE, "confidence": SHARE, "unlabelled_share": (1.0, -0.1)},
    StudentSettings: {"temperature": (0.0, -1.0), "weight": (-1.0,), "smoothing": (1.0, -0.1)},
    IteratedSettings: {
        "interaction": COUNT,
        "imitation": COUNT,
        "rho": (1.0, -0.1),
        "sample": (0.0, -1.0),
        "temperature": (0.0, -1.0),
        "evaluate_every": COUNT,
    },
    ModerationSettings: {"fpr": (0.0, 1.0), "image_size": (0, -8), "radius": (-1, 128)},
    MultilabelSettings: {"share": (0.0, 1.1), "threshold": (1.0,), "image_size": (0, -8), "rebalance": SHARE},
    AuxiliarySettings: {"image_size": (0, -8), "turned": SHARE},
    DenoiseSettings: {"labelled_share": (0.0, 1.0), "suggest": (-1,)},
    DistillSettings: {"image_size": (0, -8), "temperature": (0.0, -1.0)},
}


@pytest.mark.parametrize("kind", OUT_OF_RANGE, ids=lambda kind: kind.__name__)
def test_a_number_that_is_out_of_range_is_refused(kind: type) -> None:
    for name, values in OUT_OF_RANGE[kind].items():
        for value in values:
            with pytest.raises(
                ValueError, match=rf"{name}={re.escape(repr(value))} must be .*( in [\[(]| of | above )"
            ):
                replace(EVERY[kind], **{name: value})


@pytest.mark.parametrize(
    ("kind", "given", "near"),
    [
        (Optimization, {"optimizer": "adamW"}, "adamw"),
        (Optimization, {"schedule": "cos"}, "cosine"),
        (Hardware, {"precision": "fp32"}, None),
        (Hardware, {"precision": "fp16"}, None),
        (StudentSettings, {"curriculum": "CC"}, None),
        (IteratedSettings, {"variant": "print"}, "printed"),
    ],
)
def test_a_misspelt_word_is_answered_with_what_is_known(kind: type, given: dict[str, str], near: str | None) -> None:
    with pytest.raises(ValueError, match="must be one of '") as caught:
        kind(**given)
    assert near is None or f"did you mean {near!r}?" in str(caught.value)


MADE: dict[str, Any] = {
    "temperature=nan": lambda: Distillation("teacher", temperature=NAN),
    "kind='softly'": lambda: Distillation("teacher", kind="softly"),  # type: ignore[arg-type]
    "smoothing=nan": lambda: CrossEntropy(smoothing=NAN),
    "sample=nan": lambda: PseudoLabels("teacher", sample=NAN),
    "rho=nan": lambda: PseudoLabels("teacher", rho=NAN),
    "beta=2": lambda: EarlyLearning(4, 2, beta=2),
    "lr=nan": lambda: AMAL(4, 2, lr=NAN),
    "lr=inf": lambda: AMAL(4, 2, lr=INF),
    "init=nan": lambda: AMAL(4, 2, init=NAN),
    "init=inf must be finite": lambda: AMAL(4, 2, init=INF, bounds=(0, INF)),
    "strategy='best'": lambda: AMAL(4, 2, strategy="best"),  # type: ignore[arg-type]
    "num_examples=4.5": lambda: AMAL(4.5, 2),  # type: ignore[arg-type]
    "regularisation=nan": lambda: SuperLoss(regularisation=NAN),
    "threshold=nan": lambda: SuperLoss(NAN),
    "threshold=inf": lambda: SuperLoss(INF),
    "threshold=[1.0, nan]": lambda: SuperLoss([1.0, NAN]),
    "threshold=[]": lambda: SuperLoss([]),
    "num_signals=0": lambda: SuperLoss(num_signals=0),
    "init=inf": lambda: Uncertainty(2, init=INF),
    "init=inf must be a number": lambda: MAOAL(Linear(2, 2), 2, init=INF),
    "start=-1": lambda: CRUST(4, start=-1),
    "mode='gates'": lambda: GradientCosine(mode="gates"),  # type: ignore[arg-type]
    "constraint='abs'": lambda: MAOAL(Linear(2, 2), 2, constraint="abs"),  # type: ignore[arg-type]
    "fraction=nan": lambda: CRUST(fraction=NAN),
}


@pytest.mark.parametrize("field", MADE)
def test_signals_and_weightings_refuse_it(field: str) -> None:
    with pytest.raises(ValueError, match=re.escape(field)):
        MADE[field]()


@pytest.mark.parametrize("init", [1e-3, 1.0, 200.0])  # whose exponential float32 has not
def test_a_first_importance_under_softplus_is_what_was_asked_for(init: float) -> None:
    found = MAOAL(Linear(2, 2), 2, partition="model", init=init, constraint="softplus").importance
    torch.testing.assert_close(found, torch.full_like(found, init), rtol=1e-4, atol=0)


X, Y = torch.randn(6, 3), torch.tensor([0, 1] * 3)
GOOD, EMPTY = TensorData(input=X, label=Y), TensorData(input=X[:0], label=Y[:0])
STEPS = Plan(Budget(steps=2), Optimization(batch_size=2))


def fitted(train: Any = GOOD, signals: Any = None, plan: Any = STEPS, **others: Any) -> None:
    fit(Linear(3, 2), train, signals=signals or [CrossEntropy()], plan=plan, **others)


def own_loop(batch: Any, held_out: Any = None) -> None:
    """The steps of a loop that somebody wrote himself."""
    model = Linear(3, 2)
    objective, weighting = Objective(model, [CrossEntropy()]), AMAL(6, 1)
    weighting.backward(objective(batch), batch, model)
    weighting.adapt(objective, batch, held_out, SGD(model.parameters(), 0.1))


def swept(loader: Any, held_out: Any) -> None:
    """What finds the weights of all examples at once."""
    model = Linear(3, 2)
    sweep(AMAL(6, 1), Objective(model, [CrossEntropy()]), loader, held_out, SGD(model.parameters(), 0.1))


PAIRS = list(zip(X, Y, strict=True))
LISTED = [{"index": place, "input": X[place], "label": int(Y[place])} for place in range(6)]
BATCH = {"index": torch.arange(2), "input": X[:2], "label": Y[:2]}
DATA: dict[str, tuple[Callable[[], None], str]] = {
    "fit: a class too high": (
        lambda: fitted(TensorData(input=X, label=Y + 1)),
        r"batch\['label'\] holds class 2, and the model",
    ),
    "fit: a class too high, sigmoids": (
        lambda: fitted(TensorData(input=X, label=Y + 1), [BinaryCrossEntropy()]),
        r"batch\['label'\] holds class 2, and the model has 2, 0 to 1",
    ),
    "fit: a class too high, pixels": (
        lambda: own_pixels(torch.full((2, 4, 4), 3)),
        r"batch\['map'\] holds class 3, and the model has 2, 0 to 1",
    ),
    "fit: dicts without index": (lambda: fitted([{"input": X[0]}] * 4), r"fit: train: .*'index' and 'input'.*Indexed"),
    "fit: pairs": (lambda: fitted(list(zip(X, Y, strict=True))), r"fit: train: the data set yields list.*Indexed"),
    "fit: rows": (lambda: fitted(list(X)), r"fit: train: the data set yields Tensor"),
    "fit: a tensor": (lambda: fitted(X), r"train is a Tensor; give a map-style data set"),
    "fit: tensors by name": (lambda: fitted({"input": X}), r"train is a dict; give a map-style data set.*TensorData"),
    "fit: a loader": (lambda: fitted(DataLoader(GOOD, 2)), r"train is a DataLoader; give a map-style data set"),
    "fit: texts as labels": (
        lambda: fitted([{**each, "label": "a"} for each in LISTED]),
        r"batch\['label'\], which is a list",
    ),
    "fit: nothing to train on": (lambda: fitted(EMPTY), r"fit: train is empty"),
    "fit: nothing held out": (lambda: fitted(weighting=AMAL(6, 1), held_out=EMPTY), r"fit: held_out is empty"),
    "fit: held-out pairs": (
        lambda: fitted(weighting=AMAL(6, 1), held_out=list(zip(X, Y, strict=True))),
        r"fit: held_out: ",
    ),
    "fit: nothing to select by": (
        lambda: fitted(plan=replace(STEPS, val=EMPTY, select_by=lambda outputs, batch: 0.0)),
        r"fit: val is empty",
    ),
    "fit: a budget as plan": (lambda: fitted(plan=Budget(steps=2)), r"plan=Budget.* must be a Plan"),
    "fit: one loss": (lambda: fitted(signals=CrossEntropy()), r"signals=CrossEntropy.* must be a list of losses"),
    "loop: a class too high": (lambda: own_loop({**BATCH, "label": Y[:2] + 1}), r"batch\['label'\] holds class 2"),
    "loop: nothing held out": (
        lambda: own_loop(BATCH, {key: value[:0] for key, value in BATCH.items()}),
        r"held-out batch is empty",
    ),
    "loop: an index too high": (
        lambda: own_loop({**BATCH, "index": torch.tensor([7, 9])}),
        r"index'\] goes from 7 to 9",
    ),
    "loop: no index": (lambda: own_loop({"input": X[:2], "label": Y[:2]}), r"needs batch\['index'\]"),
    "loop: pairs": (lambda: own_loop((X[:2], Y[:2])), r"the batch is a tuple; expected a dict by name"),
    "loop: dicts": (lambda: own_loop(LISTED[:2]), r"the batch is a list; expected a dict by name"),
    "loop: held-out pairs": (lambda: own_loop(BATCH, [X, Y]), r"held_out is a list; expected a dict by name.*Indexed"),
    "loop: held-out loader": (
        lambda: own_loop(BATCH, DataLoader(GOOD, 2)),
        r"held_out is a DataLoader; expected a dict",
    ),
    "loop: none held out": (lambda: own_loop(BATCH), r"held_out is a NoneType; expected a dict by name"),
    "loop: verified pairs": (lambda: WrongLabels()((X, Y)), r"held_out is a tuple; expected a dict"),
    "sweep: pairs": (lambda: swept(DataLoader(PAIRS, 2), DataLoader(GOOD, 2)), r"the batch is a list; expected a dict"),
    "sweep: held-out pairs": (
        lambda: swept(DataLoader(GOOD, 2), DataLoader(PAIRS, 2)),
        r"held_out is a list; expected a dict by name: wrap the data set, DataLoader\(tutelage.data.Indexed",
    ),
    "loop: a loader of nothing": (lambda: next(endless(DataLoader(EMPTY, 2))), r"the loader yields no batch"),
}


def own_pixels(labels: torch.Tensor) -> None:
    PixelCrossEntropy("map")(torch.zeros(2, 2, 4, 4), {"index": torch.arange(2), "input": X[:2], "map": labels})


@pytest.mark.parametrize("name", DATA)
def test_data_that_nothing_can_be_learned_from_is_refused(name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=DATA[name][1]):
        DATA[name][0]()


def test_a_plain_list_of_examples_is_a_data_set() -> None:
    fitted(LISTED)
    fitted(LISTED, weighting=AMAL(6, 1), held_out=LISTED)


FLAGS = {
    "demo": {
        "training.clip_norm": ("-1", "0", "nan"),
        "training.lr": ("0", "nan", "inf", "-1"),
        "training.momentum": ("2",),
        "training.weight_decay": ("-1", "nan"),
        "training.batch_size": ("0", "-1", "1.5", "many"),
        "training.optimizer": ("adamW",),
        "training.schedule": ("cos",),
        "training.warmup": ("1", "nan"),
        "hardware.precision": ("fp16",),
        "hardware.workers": ("-1",),
        "discovery.lam": ("0", "nan", "inf"),
        "discovery.settled_share": ("2",),
        "selection.fpr": ("1", "nan"),
        "learning.temperature": ("nan", "0"),
        "learning.weight": ("nan",),
        "weighting": ("amall",),
        "weighting_options": ("{lr: 0.3}",),  # without a weighting
        "splits.teacher_val": ("nan", "1"),
        "image_size": ("0", "-8"),
        "radius": ("-1", "128"),
        "fpr": ("1", "0", "nan"),
        "student.dropout": ("1", "nan"),
        "student.options": ("{checkpoint_path: x}", "{pretrained: true}", "{depth: many}"),
    },
    "multilabel digits --out x": {
        "iterated.rho": ("nan", "1"),
        "iterated.temperature": ("0", "nan"),
        "iterated.interaction": ("0",),
        "early_learning.beta": ("1", "nan"),
        "threshold": ("nan", "1"),
        "image_size": ("-9",),
        "val": ("nan", "0"),
        "search.rhos": ("[2]",),
    },
    "auxiliary digits --out x": {
        "adapt.every": ("0",),
        "adapt.batch_size": ("0",),
        "trials": ("0",),
        "bounds": ("[0, 1]", "[1]"),
        "weighting": ("maola",),
        "weighting_options": ("{step: 1}", "{meta_optimizer: {lr: 0}}", "{meta_optimizer: {betas: [2, 2]}}"),
        "shares.labels": ("0", "nan"),
        "turned": ("nan", "2"),
        "body.dropout": ("nan",),
        "body.options": ("{cache_dir: x}",),
    },
    "denoise texts.csv --rules rules.py --out x": {
        "labelled_share": ("nan", "0"),
        "weighting": ("amall",),
        "weighting_options": ("{lr: 0}", "{step: 1}"),
        "held_out": ("0", "nan"),
        "features.min_count": ("0",),
        "features.ngrams": ("[0, 2]",),
        "classifier.dropout": ("nan", "1"),
        "rule_model.quality": ("nan", "1"),
        "parts.val": ("nan",),
    },
    "distill digits --out x": {
        "temperature": ("nan", "0", "-1"),
        "kd_weight": ("nan", "0", "1"),
        "weighting_options": ("{init: .nan}", "{lr: .nan}", "{lr: -1}", "{num_updates: 0}", "{strategy: best}"),
        "noise.rate": ("nan", "2"),
        "shares.val": ("nan", "1"),
        "coreset.share": ("0", "nan"),
        "image_size": ("0",),
        "budget.epochs": ("0", "-1", "1.5"),
    },
}


@pytest.mark.parametrize(
    ("words", "flag", "value"),
    [(words, flag, value) for words, flags in FLAGS.items() for flag, values in flags.items() for value in values],
)
def test_the_command_line_refuses_it_in_one_line(
    words: str,
    flag: str,
    value: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), "--scale", "pocket", f"--{flag}={value}"])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in err
    named = re.findall(r"(\w+):", value) or [flag.rpartition(".")[2]]
    assert named[-1] in err.splitlines()[-1]
    assert re.search(r"must |Expected|no option|is not|is unknown", err.splitlines()[-1]), err
    assert not list(tmp_path.iterdir())
