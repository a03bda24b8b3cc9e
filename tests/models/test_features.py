"""Models of features, and the same models behind the encoder that made the features."""

import pytest
import torch
import torch.nn.functional as F

from tutelage.models import ModelSettings, ModelSpec, build, joint_logits, load_model, save_model, with_encoder
from tutelage.models.features import FeatureMLP

ENCODER = ModelSpec("pocket_resnet", 0, 16, options={"widths": [4, 6]})
SPECS = (
    ModelSpec("feature_mlp", 3, 16, options={"num_features": 12}),
    ModelSpec("feature_mlp", 3, 16, options={"num_features": 12, "widths": [8, 5]}),
    ModelSpec("feature_student", 2, 16, 0.1, {"num_features": 12}),
    ModelSpec("feature_student", 2, 16, 0.1, {"num_features": 12, "widths": [8]}),
)


def images(count: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_model_of_features_looks_like_any_classifier(spec):
    model = build(spec).eval()
    views = torch.randn(5, 3, 12, generator=torch.Generator().manual_seed(0))
    outputs = model(views)
    assert joint_logits(outputs).shape == (5, spec.num_classes)
    assert model.distilled is isinstance(outputs, dict)
    assert torch.equal(joint_logits(outputs), joint_logits(model(views[:, 0])))  # the first view speaks for the image
    assert model.features(views).shape == (5, spec.options.get("widths", [12])[-1])
    named = dict(model.named_modules())
    assert [named[head].out_features for head in model.heads] == [spec.num_classes] * (1 + model.distilled)


def test_the_student_s_heads_have_layers_of_their_own():
    student = build(SPECS[-1]).eval()
    output = student(torch.randn(4, 12))["cls"].sum()
    output.backward()
    heard = {
        name for name, parameter in student.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert heard == {f"backbone.{name}" for name in ("layers.0.weight", "layers.0.bias", "head.weight", "head.bias")}


def test_one_linear_model_of_k_outputs_learns_what_k_models_learn():
    torch.manual_seed(0)
    together = FeatureMLP(4, num_classes=3).double()
    alone = [FeatureMLP(4, num_classes=1).double() for _ in range(3)]
    for number, model in enumerate(alone):
        model.fc.load_state_dict({name: value[number : number + 1] for name, value in together.fc.state_dict().items()})
    features, labels = torch.randn(20, 4).double(), (torch.rand(20, 3) < 0.5).double()
    for parameters, loss in [
        (
            together.parameters(),
            lambda: F.binary_cross_entropy_with_logits(together(features), labels, reduction="sum"),
        ),
        *(
            (
                model.parameters(),
                lambda model=model, j=j: F.binary_cross_entropy_with_logits(
                    model(features), labels[:, j : j + 1], reduction="sum"
                ),
            )
            for j, model in enumerate(alone)
        ),
    ]:
        optimizer = torch.optim.AdamW(parameters, lr=0.1)
        for _ in range(30):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    assert torch.allclose(together(features), torch.cat([model(features) for model in alone], 1), atol=1e-10)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_behind_the_encoder_it_says_of_images_what_it_says_of_their_features(spec, tmp_path):
    encoder, model = build(ENCODER).eval(), build(spec).eval()
    mean, std = torch.randn(12), torch.rand(12) + 0.5
    with torch.no_grad():
        wanted = joint_logits(model((encoder.features(images()) - mean) / std))
        found = with_encoder(model, encoder, mean, std)
        assert torch.allclose(joint_logits(found(images())), wanted, atol=1e-6)
        save_model(found, tmp_path, told=1)
        loaded, facts = load_model(tmp_path)
        assert torch.equal(joint_logits(loaded(images())), joint_logits(found(images())))
    assert facts == {"told": 1}
    assert loaded.spec == found.spec
    assert (loaded.spec.image_size, loaded.distilled) == (16, model.distilled)


def test_the_encoder_stays_as_it_is_in_training():
    found = with_encoder(build(SPECS[0]), build(ENCODER), torch.zeros(12), torch.ones(12)).train()
    before = {name: value.clone() for name, value in found.pixels.state_dict().items()}
    joint_logits(found(images())).sum().backward()
    assert found.backbone.training
    assert not any(module.training for module in found.pixels.encoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in found.pixels.state_dict().items())
    assert all(parameter.grad is None for parameter in found.pixels.parameters())
    assert all(parameter.grad is not None for parameter in found.backbone.parameters())


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="'pocket_vit' cannot see images by the encoder 'pocket_resnet'"):
        ModelSpec("pocket_vit", encoder=ENCODER)
    with pytest.raises(ValueError, match="'feature_mlp' cannot see images by the encoder 'feature_mlp'"):
        ModelSpec("feature_mlp", encoder=SPECS[0])
    with pytest.raises(ValueError, match=r"feature_mlp' reads features, but options=\{\} does not say how many"):
        build(ModelSpec("feature_mlp"))
    with pytest.raises(ValueError, match="pretrained='timm': timm has no weights of 'feature_mlp'"):
        build(SPECS[0], "timm")
    with pytest.raises(
        ValueError, match="model 'pocket_vit' does not fit the input: with an encoder it must be one of"
    ):
        ModelSettings("pocket_vit").spec(2, 16, 12)
    with pytest.raises(ValueError, match="model 'feature_mlp' does not fit the input"):
        ModelSettings("feature_mlp").spec(2, 16)
    with pytest.raises(ValueError, match="feature_student'"):
        build(ModelSpec("feature_studnt"))
