"""`--unfreeze last`: what learns and what does not, the gradient, resumption, and what is served."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from tutelage import recipes
from tutelage.data.encoded import EncodedTable, ImageFeatures
from tutelage.data.table import ImageArray
from tutelage.generations import IteratedSettings
from tutelage.models import ModelSettings, ModelSpec, build, load_committee, load_ensemble, load_model, save_model
from tutelage.models.features import EncoderDoor
from tutelage.recipes import auxiliary, distill, moderation, multilabel, unfreezing
from tutelage.recipes.auxiliary.task import present
from tutelage.recipes.encoding import EncoderSettings, whole
from tutelage.recipes.served import gain_of
from tutelage.recipes.unfreezing import Unfrozen, half_label, last_block, mean_gain, unfreeze_last, unfrozen
from tutelage.signals import CrossEntropy
from tutelage.training import Budget, Log, Stages

SPEC = ModelSpec("pocket_vit", 0, 16, options={"embed_dim": 8, "depth": 2, "num_heads": 2})
LAST = "backbone.blocks.1"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved_encoder(tmp_path_factory.mktemp("encoder"), SPEC)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.manifest(tmp_path_factory.mktemp("images"), (60, 90)).parent


def table(count: int = 40) -> EncodedTable:
    """Random images behind an encoder with random weights, and labels that the first pixel tells."""
    draws = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=draws)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        made = build(SPEC).requires_grad_(False).eval()
    features = made.features(pixels)[:, None]
    label = (pixels[:, 0, 0, 0] > 127).long().numpy()
    facts = pd.DataFrame({"id": [str(row) for row in range(count)], "label": label, "split": "train"})
    return EncodedTable(ImageArray(pixels), facts, ImageFeatures(features, "a", torch.arange(count), made))


def network(images: EncodedTable) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return whole(build(ModelSpec("feature_mlp", 2, 16, options={"num_features": 8, "widths": [6]})), images)


def test_the_last_block_is_that_of_the_encoder_s_own_structure():
    assert last_block(build(SPEC))[0] == LAST
    assert "backbone.norm.weight" in last_block(build(SPEC))[1]
    name, inside = last_block(build(ModelSpec("resnet10t", 0, 32)))
    assert name == "backbone.layer4"
    assert all(each.startswith("backbone.layer4.") for each in inside)


def test_the_block_s_gradient_is_the_loss_s_derivative_and_the_rest_of_the_encoder_has_none():
    images = table()
    made = network(images).double()
    facts = unfreeze_last(made)
    made.train()
    pixels, label = images.images.gather(range(12)), images.labels[:12]

    def loss() -> torch.Tensor:
        return CrossEntropy()(made(pixels), {"label": label}).mean()

    loss().backward()
    encoder = made.pixels.encoder
    assert facts == {
        "block": LAST,
        "trained": sum(p.numel() for name, p in encoder.named_parameters() if p.requires_grad),
        "of": sum(p.numel() for p in encoder.parameters()),
    }
    assert not any(module.training for module in encoder.modules())
    checked = 0
    for name, parameter in encoder.named_parameters():
        if not name.startswith((LAST, "backbone.norm")):
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None
        way = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(checked), dtype=torch.float64)
        values = []
        with torch.no_grad():
            for step in (1e-6, -2e-6):
                parameter += step * way
                values.append(float(loss()))
            parameter += 1e-6 * way
        assert float((parameter.grad * way).sum()) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-9)
        checked += 1
    assert checked > 8
    assert all(parameter.grad is not None for parameter in made.backbone.parameters())


def trained(images: EncodedTable, out: Path, made: Any = None) -> Unfrozen:
    return unfrozen(
        made or network(images),
        "backbone",
        images,
        images.rows("train"),
        half_label(images.labels, torch.full((len(images), 2), 0.5)),
        CrossEntropy("target"),
        save_model,
        settings=replace(moderation.pocket(), augmentation="shift"),
        stages=Stages(out, Log(None, quiet=True)),
        log=Log(None, quiet=True),
    )


def test_behind_a_regression_that_has_no_weights_the_block_learns_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(unfreezing, "TRAINING", replace(unfreezing.TRAINING, batch_size=8))
    images = table()
    kernel = build(ModelSpec("feature_kernel", 2, 16, options={"num_features": 8, "examples": 30}))
    kernel.backbone.known.copy_(torch.nn.functional.normalize(images.features.rows[torch.arange(30)][:, 0], dim=1))
    kernel.backbone.dual.copy_(images.labels[:30] - 0.5)
    made = whole(kernel, images)
    found = trained(images, tmp_path, made)
    after, before = load_model(found.folder)[0].cpu().state_dict(), made.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved
    assert all(name.startswith((f"pixels.encoder.{LAST}", "pixels.encoder.backbone.norm")) for name in moved)


def test_interrupted_it_ends_as_straight_through_and_the_frozen_part_is_the_same_bits(tmp_path, monkeypatch):
    images = table()
    monkeypatch.setattr(unfreezing, "TRAINING", replace(unfreezing.TRAINING, batch_size=8))
    straight = trained(images, tmp_path / "straight")
    calls, step = 0, torch.optim.AdamW.step

    def dying(self: Any, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            trained(images, tmp_path / "killed")
    resumed = trained(images, tmp_path / "killed")
    assert torch.equal(resumed.logits, straight.logits)
    assert torch.equal(trained(images, tmp_path / "killed").logits, straight.logits)  # the stage is kept
    before = images.features.encoder
    assert before is not None
    after = load_model(straight.folder)[0].pixels.encoder.state_dict()  # type: ignore[union-attr, operator]
    for name, value in before.state_dict().items():
        learned = name.startswith((LAST, "backbone.norm"))
        assert torch.equal(value, after[name]) != learned, name
    with torch.no_grad():
        assert torch.equal(
            before.features(images.images.gather(range(40))), images.features.rows[torch.arange(40)][:, 0]
        )


def settings_of(name: str, images: Path, encoder: Path, out: Path) -> tuple[Any, Any]:
    frozen = EncoderSettings(pretrained=str(encoder), cache=out / "cache", views=0)
    head, made = ModelSettings("feature_mlp"), None
    if name == "moderation":
        student = ModelSettings("feature_student", options={"widths": [8]})
        made = replace(tiny.settings(), encoder=frozen, student=student, specialist=head, unfreeze="last")
        return moderation.moderation_task(images / "all.csv", made), made
    if name == "distill":
        teachers = (distill.TeacherSettings(head, budget=Budget(epochs=1)),)
        small = replace(distill.pocket(), augmentation="shift", encoder=frozen, student=head, teachers=teachers)
        plain = replace(small, budget=Budget(epochs=1), method="ce", baselines=(), unfreeze="last")
        return distill.distill_task(str(images / "all.csv"), plain), plain
    few = replace(multilabel.pocket(), radius=-1, encoder=frozen, model=head, budget=Budget(steps=4))
    sets = replace(few, iterated=IteratedSettings(2, 2, rho=0.1), unfreeze="last")
    return multilabel.multilabel_task(str(images / "all.csv"), sets), sets


@pytest.mark.parametrize("name", ["moderation", "distill", "multilabel"])
@pytest.mark.parametrize("kept", [True, False])
def test_what_is_served_is_one_model_that_says_what_the_run_said(name, kept, images, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(Unfrozen, "kept", property(lambda self: kept))
    monkeypatch.setattr(unfreezing, "BUDGET", Budget(epochs=1))
    run = recipes.run(name, *settings_of(name, images, encoder, tmp_path), tmp_path / "run", quiet=True)
    told = run.metrics["unfrozen"]
    assert (told["kept"], told["block"]) == (kept, LAST)
    assert told["judged_on"] > 0
    load: Callable[[Path], Any] = load_committee if name == "moderation" else load_model
    model = load(run.folder / "model")[0]
    door = next(module for module in model.modules() if isinstance(module, EncoderDoor))
    start = load_model(encoder)[0].state_dict()
    same = [torch.equal(value, start[each]) for each, value in door.encoder.state_dict().items() if each in start]
    assert all(same) == (not kept)
    if kept and name == "moderation":
        assert run.metrics["choice"]["chosen"] == "unfrozen"
    table, _ = recipes.predict(run.folder, images / "all.csv", tmp_path / "scores.parquet")
    column = {"moderation": "score", "distill": "probability", "multilabel": "scores"}[name]
    examples = pd.read_parquet(run.folder / "examples.parquet")
    if name == "distill" and not kept:  # what it has learned from it answers there without their labels
        examples = examples[examples["split"] == "test"]
    said, listed = (each.set_index("id")[column] for each in (table, examples))
    for id in listed.index[::5]:
        assert np.allclose(said[id], listed[id], atol=1e-5), id
    words = "and the result is served" if kept else "but the encoder is served without that"
    assert words in run.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_all_networks_of_a_mean_learn_with_the_block(kind, copies, images, encoder, tmp_path, monkeypatch):
    """The primary task is the poster's label, or a number; every third label is not known."""
    kept = copies == 2
    monkeypatch.setattr(Unfrozen, "kept", property(lambda self: kept))
    monkeypatch.setattr(unfreezing, "BUDGET", Budget(epochs=1))
    posters = pd.read_csv(images / "all.csv")
    posters["number"] = np.where(np.arange(len(posters)) % 3, posters["label"].str.len() / 10, np.nan)
    posters["side"] = posters["label"]
    posters["label"] = posters["label"].where(posters["number"].notna())
    manifest = images / f"{kind}-{copies}.csv"
    posters.to_csv(manifest, index=False)
    made = replace(
        auxiliary.laptop(),
        encoder=EncoderSettings(pretrained=str(encoder), cache=tmp_path / "cache", views=0),
        body=auxiliary.BodySettings("feature_mlp", options={"widths": [8]}),
        method="single",
        baselines=("equal",),
        budget=Budget(epochs=1),
        copies=copies,
        unfreeze="last",
    )
    primary = {"name": "label"} if kind == "classification" else {"name": "number", "kind": kind}
    problem = auxiliary.auxiliary_task(str(manifest), made, primary=primary, sides=({"name": "side"},))
    run = recipes.run("auxiliary", problem, made, tmp_path / "run", quiet=True)
    told = run.metrics["unfrozen"]
    assert (told["kept"], told["block"], told["judged_on"]) == (kept, LAST, run.metrics["choice"]["judged_on"])
    model, start = load_ensemble(run.folder / "model")[0], load_model(encoder)[0].state_dict()
    same = [torch.equal(value, start[name]) for name, value in model.door.encoder.state_dict().items() if name in start]  # type: ignore[union-attr, operator]
    assert all(same) == (not kept)
    assert len(model.members) == copies * len(run.metrics["choice"]["members"])
    table, _ = recipes.predict(run.folder, manifest, tmp_path / "answers.parquet")
    test = torch.from_numpy(problem.split == "test") & present(problem.primary, problem.judged_by())
    answers = table["answer"].to_numpy()[test.numpy()]
    figure = run.metrics["methods"][run.metrics["choice"]["chosen"]]
    if kind == "classification":
        assert figure["accuracy"]["value"] == pytest.approx(
            (answers == posters["label"].to_numpy()[test.numpy()]).mean()
        )
    else:
        errors = answers - posters["number"].to_numpy()[test.numpy()]
        assert figure["rmse"]["value"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-5)
    words = "and the result is served" if kept else "but the encoder is served without that"
    assert words in run.report.read_text(encoding="utf-8")


def test_a_table_of_fields_has_nothing_to_unfreeze_and_is_told_before_anything_is_trained(encoder, tmp_path):
    facts = {
        "label": ["a", "b"] * 80,
        "side": ["u", "u", "v", "v"] * 40,
        "colour": ["red", "blue", "red", "green"] * 40,
    }
    pd.DataFrame(facts).to_csv(tmp_path / "fields.csv", index=False)
    made = replace(
        auxiliary.laptop(), encoder=EncoderSettings(pretrained=str(encoder), cache=tmp_path), unfreeze="last"
    )
    problem = auxiliary.auxiliary_task(
        str(tmp_path / "fields.csv"), made, primary={"name": "label"}, sides=({"name": "side"},), fields=("colour",)
    )
    with pytest.raises(ValueError, match="and none are behind one here; leave unfreeze out"):
        recipes.run("auxiliary", problem, made, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "stages").exists()


def test_it_is_kept_only_where_held_out_labels_say_so():
    draws = np.random.default_rng(0)
    better, level = mean_gain(draws.normal(0.2, 1, 400)), mean_gain(draws.normal(0, 1, 400))
    assert better.low > 0 > level.low
    ones = np.array([-1.0, 1.0] * 50)  # standard error sqrt(100 / 99) / 10, times the normal's 90 % quantile
    assert mean_gain(ones).high == pytest.approx(1.2815515655 * np.sqrt(100 / 99) / 10)
    right, wrong = np.arange(60) % 2, np.zeros(60)

    def share(said: Any, truth: Any) -> float:
        return float((said == truth).mean())

    assert gain_of(share, [right], [wrong], [right], 0).low > 0.3
    assert gain_of(share, [wrong], [wrong], [right], 0).high == 0
    assert not Unfrozen(Path(), torch.zeros(1, 2), {}).kept
    assert Unfrozen(Path(), torch.zeros(1, 2), {}, better).kept
    assert not Unfrozen(Path(), torch.zeros(1, 2), {}, mean_gain(np.full(60, 1e-16))).kept  # rounding


def test_a_label_counts_half_and_none_not_at_all():
    said = torch.tensor([[0.2, 0.8], [0.2, 0.8], [0.2, 0.8]])
    found = half_label(torch.tensor([0, 1, -1]), said)
    assert torch.allclose(found, torch.tensor([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8]]))


def test_without_an_encoder_there_is_nothing_to_unfreeze(tmp_path):
    for made in (moderation.pocket(), distill.pocket(), multilabel.pocket(), auxiliary.pocket()):
        with pytest.raises(
            ValueError, match="unfreeze='last' trains the last block of the run's encoder, and there is none"
        ):
            replace(made, unfreeze="last")
    with pytest.raises(ValueError, match="unfreeze='last'"):
        replace(moderation.laptop(), encoder=EncoderSettings(features=tmp_path / "x.npy"), unfreeze="last")
