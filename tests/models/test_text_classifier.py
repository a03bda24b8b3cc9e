"""The mean of several classifiers of a text, saved and read again."""

import json

import pytest
import torch

from tutelage.models import RuleModel, RuleModelSpec, TextClassifier, text_classifier


@pytest.mark.parametrize("kind", ["logistic", "mlp"])
def test_it_answers_with_the_mean_of_the_probabilities(kind, tmp_path):
    torch.manual_seed(0)
    models = [
        RuleModel(RuleModelSpec(3, (0, 1), 2, kind=kind, hidden=4, dropout=0.5, rules=rules)).eval()
        for rules in ("cage", "none", "reliability")
    ]
    for parameter in (each for model in models for each in model.parameters()):
        torch.nn.init.normal_(parameter)
    made, x = text_classifier(models), torch.randn(5, 3)
    expected = torch.stack([model.classifier(x).softmax(1) for model in models]).mean(0)
    torch.testing.assert_close(made(x).exp(), expected)
    made.save(tmp_path, classes=["a", "b"])
    loaded, facts = TextClassifier.load(tmp_path)
    assert facts == {"classes": ["a", "b"]}
    torch.testing.assert_close(loaded.cpu()(x), made(x))


def test_a_strangers_file_cannot_ask_for_many(tmp_path):
    text_classifier([RuleModel(RuleModelSpec(3, (0,), 2, rules="none"))]).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["members"] = 101
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="members"):
        TextClassifier.load(tmp_path)
