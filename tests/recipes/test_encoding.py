"""Runs on the features of a frozen encoder: computed once, learned from by every stage, and served as one model of images."""

import json
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
from tutelage.data.drawn import draw_parts
from tutelage.data.encoded import EncodedTable
from tutelage.data.indexed import TensorData
from tutelage.data.quarters import TurnedRows, in_quarters
from tutelage.data.rotation import QUARTERS, turned
from tutelage.generations import IteratedSettings
from tutelage.models import ModelSettings, ModelSpec, PartialWeights, build, load_committee, load_model, save_model
from tutelage.production.export import export
from tutelage.recipes import auxiliary, distill, encoding, moderation, multilabel
from tutelage.recipes.encoding import LAPTOP_ENCODER, EncoderSettings, encoded, with_features
from tutelage.recipes.feature_maker import FeatureMaker
from tutelage.recipes.moderation import ModerationSettings
from tutelage.training import Budget

SIZE = 16
WIDTH = 16  # of its features: means and maxima


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.saved_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a manifest of 300 posters."""
    return tiny.manifest(tmp_path_factory.mktemp("images"), (120, 180)).parent


def frozen(encoder: Path, cache: Path, **others: Any) -> EncoderSettings:
    return EncoderSettings(pretrained=str(encoder), cache=cache, **{"views": 1, "batch_size": 32} | others)


def settings(encoder: Path, cache: Path, **others: Any) -> ModerationSettings:
    made = replace(
        tiny.settings(),
        image_size=24,  # the encoder's own is another
        encoder=frozen(encoder, cache),
        student=ModelSettings("feature_student", options={"widths": [8]}),
        specialist=ModelSettings("feature_mlp"),
    )
    return replace(made, **others)


def moderated(images: Path, encoder: Path, out: Path) -> tuple[recipes.Run, Callable[[pd.DataFrame], Any]]:
    made = settings(encoder, out.parent / "cache")
    task = moderation.moderation_task(images / "all.csv", made)
    run = recipes.run("moderation", task, made, out, quiet=True)
    return run, lambda table: pd.read_parquet(run.folder / "examples.parquet")["score"]


def distilled(images: Path, encoder: Path, out: Path) -> tuple[recipes.Run, Callable[[pd.DataFrame], Any]]:
    made = replace(
        distill.pocket(),
        augmentation="shift",
        encoder=frozen(encoder, out.parent / "cache"),
        student=ModelSettings("feature_mlp"),
        teachers=(
            distill.TeacherSettings(ModelSettings("feature_mlp", options={"widths": [8]}), budget=Budget(epochs=1)),
        ),
        budget=Budget(epochs=2),
        method="kd",
        baselines=(),
    )
    task = distill.distill_task(str(images / "all.csv"), made)
    run = recipes.run("distill", task, made, out, quiet=True)
    return run, lambda table: pd.read_parquet(run.folder / "examples.parquet")["probability"]


def multilabelled(images: Path, encoder: Path, out: Path) -> tuple[recipes.Run, Callable[[pd.DataFrame], Any]]:
    made = replace(
        multilabel.pocket(),
        radius=-1,
        encoder=frozen(encoder, out.parent / "cache"),
        model=ModelSettings("feature_mlp"),
        budget=Budget(steps=8),
        iterated=IteratedSettings(2, 2, rho=0.1),
    )
    task = multilabel.multilabel_task(str(images / "all.csv"), made)
    run = recipes.run("multilabel", task, made, out, quiet=True)
    return run, lambda table: pd.read_parquet(run.folder / "examples.parquet")["scores"].map(list)


def with_sides(images: Path, encoder: Path, out: Path) -> tuple[recipes.Run, Any]:
    """Whether a poster is defective, with its turn and a side task that repeats the label."""
    table = pd.read_csv(images / "all.csv")
    table.assign(id=table["image"], again=table["label"]).to_csv(images / "sides.csv", index=False)
    made = replace(
        auxiliary.laptop(),
        augmentation="none",
        encoder=frozen(encoder, out.parent / "cache", views=0),
        shares=auxiliary.Shares(val=0.2, held_out=0.2),
        body=auxiliary.BodySettings("feature_mlp", options={"widths": [8, 8]}),
        budget=Budget(epochs=2),
        baselines=(),
    )
    sides = ({"name": "again"}, {"name": "turn", "kind": "rotation"})
    task = auxiliary.auxiliary_task(str(images / "sides.csv"), made, primary={"name": "label"}, sides=sides)
    assert len(task.images) == 4 * len(task.split)
    return recipes.run("auxiliary", task, made, out, quiet=True), task


def test_a_run_with_side_tasks_answers_images_as_it_answered_their_features(images, encoder, tmp_path):
    run, task = with_sides(images, encoder, tmp_path / "run")
    assert set(run.metrics["methods"]) == {"maoal", "refit", "single", "ensemble"}
    modules = run.metrics["importance"]["modules"]
    assert modules == ["layers.0", "layers.2"]
    table, problems = recipes.predict(run.folder, images / "sides.csv", tmp_path / "answers.parquet")
    assert problems.counts() == {}
    answers = table.set_index("id")["answer"]
    test = task.rows("test").tolist()
    names = task.classes["label"]
    right = [answers[task.ids[row]] == names[int(task.labels["label"][row])] for row in test]
    served = run.metrics["choice"]["chosen"]
    assert np.mean(right) == pytest.approx(run.metrics["methods"][served]["accuracy"]["value"])


def test_a_turn_of_an_image_is_a_row_of_its_features(images, encoder, tmp_path):
    upright = moderation.moderation_task(images / "all.csv", settings(encoder, tmp_path)).images
    four, everything = in_quarters(upright), torch.arange(len(upright))
    pixels = upright.images.gather(everything.tolist())
    for quarters in range(QUARTERS):
        rows = (quarters * len(upright) + everything).tolist()
        assert torch.equal(four.images.gather(rows), torch.rot90(pixels, quarters, (2, 3)))
    assert four.images.key(3) == upright.images.key(3)
    assert len({four.images.key(3 + quarters * len(upright)) for quarters in range(QUARTERS)}) == QUARTERS
    rows = everything[5:9]
    torch.manual_seed(0)
    batch = TurnedRows(four, rows, 0.75).batch([0, 1, 2, 3])
    assert torch.equal(batch["index"], rows)
    assert torch.equal(batch["input"], turned(pixels[5:9], batch["rotation"]))


def test_maps_and_fields_need_no_encoder(encoder, tmp_path):
    made = replace(auxiliary.laptop(), encoder=frozen(encoder, tmp_path))
    draws = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 3, (240, 8, 8), generator=draws)
    split = draw_parts([""] * 240, made.shares.parts, 0)
    pixels = torch.randint(0, 256, (240, 3, 8, 8), dtype=torch.uint8, generator=draws)
    sides = (auxiliary.TaskSpec("kind"),)
    labels = {"map": maps, "kind": maps[:, 0, 0]}
    rooms = auxiliary.AuxiliaryTask(
        "rooms", auxiliary.TaskSpec("map", "segmentation"), sides, TensorData(input=pixels), labels, split
    )
    with pytest.raises(ValueError, match=r"body\.name='feature_mlp' does not fit the input"):
        recipes.run("auxiliary", rooms, made, tmp_path / "rooms", quiet=True)
    assert recipes.load("auxiliary").presets.chosen("auto", "movielens")[0] == auxiliary.pocket()
    for scale, begins in (("auto", "scale auto is pocket (a small network of"), ("pocket", "scale pocket: a small")):
        settings, why = recipes.load("auxiliary").presets.chosen(scale, "own.csv", fields=True)
        assert settings == auxiliary.tabular()
        assert why.startswith(begins)
        assert "encoder" not in why


@pytest.mark.parametrize("make", [moderated, distilled, multilabelled])
def test_predict_on_images_says_what_the_run_said_of_their_features(make, images, encoder, tmp_path):
    run, of = make(images, encoder, tmp_path / "run")
    model = (load_committee if make is moderated else load_model)(run.folder / "model")[0]
    assert model.spec.encoder == replace(tiny.ENCODER, num_classes=0)
    table, problems = recipes.predict(run.folder, images / "all.csv", tmp_path / "scores.parquet")
    assert len(table) == 300
    assert problems.counts() == {}
    asked = next(name for name in ("score", "probability", "scores") if name in table)
    said, listed = table.set_index("id")[asked], pd.read_parquet(run.folder / "examples.parquet").set_index("id")
    known = of(table)
    known.index = listed.index
    if make is distilled:  # what it has learned from it answers there without their labels
        listed = listed[listed["split"] == "test"]
    assert len(listed) > 20
    for id in listed.index:
        assert np.allclose(said[id], known[id], atol=1e-5), id


def test_encoder_and_heads_are_exported_as_one_graph_of_images(images, encoder, tmp_path):
    made = settings(encoder, tmp_path / "cache")
    task = moderation.moderation_task(images / "all.csv", made)
    run = recipes.run("moderation", task, made, tmp_path / "run", quiet=True)
    card = export(run.folder, tmp_path / "exported", task)
    assert card["input"]["size"] == SIZE
    assert card["parity"]["same_class"] == 1.0


def with_their_features(images: Path, made: ModerationSettings) -> Any:
    return with_features(moderation.moderation_task(images / "all.csv", made), made, encoded)


def test_the_same_images_are_encoded_once_and_alike(images, encoder, tmp_path, capfd, monkeypatch):
    made = settings(encoder, tmp_path)
    first = with_their_features(images, made)
    assert isinstance(first.images, EncodedTable)
    assert f"features of 300 images by pocket_resnet, kept in {tmp_path}" in capfd.readouterr().err
    everything = torch.arange(300)
    features = first.images.features.gather(everything)
    assert features.shape == (300, 2, WIDTH)
    pixels = first.images.images.gather(range(300))
    assert pixels.shape[-1] == SIZE
    with torch.no_grad():
        wanted = first.images.features.encoder.features(pixels)
    assert torch.allclose(first.images.features.rows[everything][:, 0], wanted, atol=1e-5)

    def refuse(*_: Any) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(FeatureMaker, "features", refuse)
        again = with_their_features(images, made)
    assert again.fingerprint() == first.fingerprint()
    assert torch.equal(again.images.features.gather(everything), features)
    monkeypatch.setattr(encoding, "MEMORY", 0)  # as with more features than memory holds
    mapped = with_their_features(images, made)
    assert torch.equal(mapped.images.features.gather(everything), features)

    other = with_their_features(images, replace(made, encoder=frozen(encoder, tmp_path, views=2)))
    assert other.fingerprint() != first.fingerprint()
    again = other.images.features.rows[everything][:, :2]
    assert torch.allclose(
        again, first.images.features.rows[everything], atol=1e-5
    )  # a view is a function of its number


def test_a_killed_computation_ends_in_the_same_features_and_damage_is_told(
    images, encoder, tmp_path, capfd, monkeypatch
):
    straight = with_their_features(images, settings(encoder, tmp_path / "straight"))
    made, count = settings(encoder, tmp_path / "killed"), 0

    def dying(self: Any, *given: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 4:  # two for the estimate, the first file, and no more
            raise KeyboardInterrupt
        return features(self, *given)

    features = FeatureMaker.features
    with monkeypatch.context() as patch:
        patch.setattr(FeatureMaker, "features", dying)
        with pytest.raises(KeyboardInterrupt):
            with_their_features(images, made)
    (kept,) = (tmp_path / "killed").glob("*/*.safetensors")
    resumed = with_their_features(images, made)
    assert "features of 44 images" in capfd.readouterr().err
    everything = torch.arange(300)
    assert torch.equal(resumed.images.features.gather(everything), straight.images.features.gather(everything))
    kept.write_bytes(kept.read_bytes()[:-1])
    repaired = with_their_features(images, made)
    assert "1 damaged files of features in" in capfd.readouterr().err
    assert torch.equal(repaired.images.features.gather(everything), straight.images.features.gather(everything))


def test_a_file_of_weights_needs_a_name_and_gives_the_same_encoder(encoder, tmp_path):
    file = str(encoder / "model.safetensors")
    named = EncoderSettings("pocket_resnet", file, {"widths": [4, 8]})
    images = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8)
    both = [each.open(SIZE).features(images) for each in (named, frozen(encoder, tmp_path))]
    assert torch.equal(*both)
    with pytest.raises(ValueError, match=r"is a file of weights; name its model by encoder\.name"):
        EncoderSettings(pretrained=file).open(SIZE)
    with (
        pytest.raises(ValueError, match=r"lacks weights of 'pocket_resnet', and nothing would train them: backbone\."),
        pytest.warns(PartialWeights),
    ):
        EncoderSettings("pocket_resnet", file, {"widths": [4, 8, 8]}).open(SIZE)


def test_an_encoder_that_cannot_be_had_says_what_to_do(encoder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"encoder\.pretrained='nowhere': there is no such file or folder"):
        EncoderSettings(pretrained="nowhere").open(SIZE)
    with pytest.raises(FileNotFoundError, match=r"the folder holds no config\.json"):
        EncoderSettings(pretrained=str(tmp_path)).open(SIZE)
    save_model(build(ModelSpec("feature_mlp", 2, SIZE, options={"num_features": 4})), tmp_path)
    with pytest.raises(ValueError, match="holds no model that can be an encoder"):
        EncoderSettings(pretrained=str(tmp_path)).open(SIZE)
    monkeypatch.setattr(encoding, "build", missing)
    with pytest.raises(
        FileNotFoundError, match=r"encoder\.pretrained='timm'.*--encoder\.pretrained FILE .*--scale pocket"
    ):
        LAPTOP_ENCODER.open(224)


def missing(*_: Any) -> None:
    raise FileNotFoundError("pretrained='timm': the weights could not be fetched")


def test_a_run_that_needs_pixels_refuses_models_of_features_and_the_other_way_round(images, encoder, tmp_path):
    with_encoder = settings(encoder, tmp_path)
    task = moderation.moderation_task(images / "all.csv", with_encoder)
    with pytest.raises(ValueError, match="'pocket_deit' does not fit the input: with an encoder it must be one of"):
        recipes.run(
            "moderation", task, replace(with_encoder, student=tiny.settings().student), tmp_path / "a", quiet=True
        )
    plain = replace(with_encoder, encoder=EncoderSettings())
    with pytest.raises(ValueError, match="'feature_mlp' does not fit the input"):
        recipes.run("moderation", tiny.task(), plain, tmp_path / "b", quiet=True)
    made = replace(distill.pocket(), encoder=frozen(encoder, tmp_path), student=ModelSettings("feature_mlp"))
    made = replace(made, teachers=(distill.TeacherSettings(folder=encoder),))
    task = distill.distill_task(str(images / "all.csv"), made)
    with pytest.raises(ValueError, match="sees features of an encoder; leave the folder out"):
        recipes.run("distill", task, made, tmp_path / "c", quiet=True)


def test_auto_is_laptop_where_its_encoder_can_be_had_and_says_why_it_is_not(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    recipe = recipes.load("moderation")
    settings, why = recipe.presets.chosen("auto", "ads.csv")
    assert settings == recipe.presets.chosen("pocket")[0]
    assert "no accelerator and the weights of vit_small_patch14_dinov2.lvd142m are not on this disk" in why
    assert "--encoder.pretrained FILE" in why
    settings, why = recipe.presets.chosen("auto", "ads.csv", "mine")
    assert settings == recipe.presets.chosen("laptop")[0]
    assert why.endswith("since features come from 'mine'")
    monkeypatch.setattr("tutelage.recipes.presets.unobtainable", lambda encoder: "")
    assert recipe.presets.chosen("auto", "ads.csv")[0] == recipe.presets.chosen("laptop")[0]
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert recipe.presets.chosen("auto", "ads.csv")[0] == recipe.presets.chosen("paper")[0]
    with pytest.raises(ValueError, match="scale='laptop': this recipe comes at pocket, paper"):
        recipes.load("denoise").presets.chosen("laptop")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"student": tiny.settings().student}, "'pocket_deit' does not fit the input"),
        ({"student": ModelSettings("feature_student", options={"widths": "wide"})}, r"student\.name='feature_student'"),
        (
            {"encoder": EncoderSettings("pocket_vit", options={"num_heads": 3})},
            r"encoder\.name='pocket_vit'.*: tried on two",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_features_are_computed(
    wrong, message, images, encoder, tmp_path, monkeypatch
):
    right = settings(encoder, tmp_path / "cache")
    task, made = moderation.moderation_task(images / "all.csv", right), replace(right, **wrong)

    def refuse(*_: Any) -> None:
        raise AssertionError("features are computed")

    monkeypatch.setattr(FeatureMaker, "fill", refuse)
    with pytest.raises(ValueError, match=message):
        recipes.run("moderation", task, made, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_an_encoder_of_an_unknown_name_is_refused_before_an_image_is_read(encoder, tmp_path):
    made = replace(settings(encoder, tmp_path), encoder=EncoderSettings("resnet5O"))
    with pytest.raises(ValueError, match="model 'resnet5O' is not known to timm; did you mean"):
        moderation.moderation_task(tmp_path / "nowhere.csv", made)


def test_given_weights_need_no_hub():
    assert encoding.unobtainable(EncoderSettings("resnet50", "weights.safetensors")) == ""
    assert "resnet50 are not on this disk" in encoding.unobtainable(EncoderSettings("resnet50"))


def test_without_an_encoder_nothing_is_encoded():
    task = tiny.task()
    assert encoded(task.images, tiny.settings()) is task.images
    assert with_features(task, tiny.settings(), encoded) is task
    assert json.dumps(task.images.num_features) == "null"
