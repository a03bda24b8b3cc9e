"""The encoders of the laptop scale: trained once, and probed by a ridge regression that agrees with another library's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.laptop import encoder, probe
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tutelage.data.table import ImageArray, ImageTable
from tutelage.models import load_model
from tutelage.training import Budget


def labelled(count: int, classes: int = 3) -> ImageTable:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, classes, (count,), generator=draw)
    pixels[torch.arange(count), labels] //= 2  # a channel that says which class it is
    facts = {"id": [str(row) for row in range(count)], "label": labels.numpy(), "split": "unassigned"}
    return ImageTable(ImageArray(pixels), pd.DataFrame(facts))


def test_the_ridge_regression_agrees_with_scikit_learn_s():
    draw = torch.Generator().manual_seed(1)
    vectors = torch.randn(120, 7, generator=draw).double()
    labels = (vectors[:, :3] + torch.randn(120, 3, generator=draw)).argmax(1)
    train, test = torch.arange(80), torch.arange(80, 120)
    scaler = StandardScaler().fit(vectors[train])
    for ridge in (0.01, 1.0):
        scale = np.sqrt(80 / 79)  # torch's deviation divides by n - 1
        model = Ridge(alpha=ridge * 80, fit_intercept=True)
        model.fit(scaler.transform(vectors[train]) / scale, np.eye(3)[labels[train]])
        answers = model.predict(scaler.transform(vectors[test]) / scale).argmax(1)
        assert probe.accuracy(vectors, labels, train, test, ridge) == (answers == labels[test].numpy()).mean()


def test_a_probe_learns_what_the_vectors_say_and_nothing_else():
    images = labelled(200)
    means = probe.probe(lambda pixels: pixels.float().mean((2, 3)), images, 0)
    noise = probe.probe(
        lambda pixels: torch.randn(len(pixels), 4, generator=torch.Generator().manual_seed(2)), images, 0
    )
    assert means > 0.9 > 0.6 > noise


@pytest.mark.trains
def test_an_encoder_is_trained_once_and_the_second_goes_on_from_the_first(tmp_path, monkeypatch):
    small = replace(encoder.SPEC, num_classes=3, image_size=16, options={"widths": [4, 6]})
    monkeypatch.setattr(encoder, "SPEC", small)
    monkeypatch.setattr(encoder, "BUDGET", Budget(steps=2))
    monkeypatch.setattr(encoder, "SHOP_BUDGET", Budget(steps=1))
    monkeypatch.setattr(encoder, "SHOP_SIZE", 16)
    monkeypatch.setattr(encoder, "SHOP_TRAINING", replace(encoder.SHOP_TRAINING, lr=1e-9, warmup=0.0))
    read = []
    monkeypatch.setattr(encoder, "read_cifar", lambda *given, **others: (read.append(given), (labelled(20), {}))[1])
    table = labelled(20, 2)
    monkeypatch.setattr(encoder, "article_types", lambda *given, **others: (table.images.images, table.labels))
    shop = encoder.shop_encoder(tmp_path, tmp_path / "runs")
    first = encoder.cifar_encoder(tmp_path, tmp_path / "runs")
    assert encoder.shop_encoder(tmp_path, tmp_path / "runs") == shop
    assert read == [("cifar100", Path(tmp_path / "cifar100"))]
    (before, _), (after, _) = load_model(first), load_model(shop)
    assert (before.spec.num_classes, after.spec.num_classes) == (3, 2)
    weight = "backbone.stem.0.weight"
    assert torch.allclose(before.state_dict()[weight], after.state_dict()[weight], atol=1e-6)
