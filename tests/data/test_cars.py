"""Stanford Cars, in files of the same layout."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tutelage.data import stanford_cars
from tutelage.recipes.distill import task
from tutelage.recipes.distill.settings import pocket

NAMES = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Audi A5 Coupe 2012"]
CLASSES = {"train": [3, 1, 2, 3], "test": [2, 1]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "devkit").mkdir()
    savemat(tmp_path / "devkit" / "cars_meta.mat", {"class_names": np.array(NAMES, dtype=object)})
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        (tmp_path / f"cars_{split}").mkdir()
        fields = [(name, "O") for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
        rows = np.empty((1, len(CLASSES[split])), dtype=fields)
        for number, label in enumerate(CLASSES[split]):
            rows[0, number] = (1, 1, 20, 10, label, f"{number + 1:05}.jpg")
            Image.new("RGB", (30, 20), (10 * label, 0, 0)).save(tmp_path / f"cars_{split}" / f"{number + 1:05}.jpg")
        savemat(tmp_path / path, {"annotations": rows})
    return tmp_path


def test_the_official_layout(folder):
    table, names = stanford_cars(folder, size=16)
    assert names == NAMES
    assert table.labels.tolist() == [2, 0, 1, 2, 1, 0]
    assert table.table["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert table.table["id"][4] == "cars_test/00001.jpg"
    image = table.images.gather([4])[0]
    assert image.shape == (3, 16, 16)
    assert abs(int(image[0].float().mean()) - 20) <= 2
    (folder / "cars_test_annos_withlabels.mat").rename(folder / "devkit" / "cars_test_annos_withlabels.mat")
    assert stanford_cars(folder)[0].labels.tolist() == table.labels.tolist()


def test_distillation_takes_them_by_name(folder, monkeypatch):
    monkeypatch.setattr(task, "divided", lambda images, shares: images)
    monkeypatch.setattr(task, "LEAST", 1)
    found = task.distill_task("cars", replace(pocket(), image_size=16), folder=folder)
    assert found.classes == tuple(NAMES)
    assert found.truth is not None
    assert found.truth.tolist() == found.labels.tolist() == [2, 0, 1, 2, 1, 0]
    with pytest.raises(FileNotFoundError, match="data='cars' needs the folder of its files"):
        task.distill_task("cars", pocket())


def test_what_is_missing_is_named(folder):
    (folder / "cars_test" / "00002.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 photographs are not in .*, such as cars_test/00002.jpg"):
        stanford_cars(folder)
    rows = np.empty((1, 1), dtype=[("fname", "O")])
    rows[0, 0] = ("00001.jpg",)
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": rows})
    with pytest.raises(ValueError, match="has no classes; take the file of the test with labels"):
        stanford_cars(folder)
    (folder / "devkit" / "cars_meta.mat").unlink()
    with pytest.raises(
        FileNotFoundError, match=re.escape("there is no") + ".*cars_meta.mat; Stanford Cars is a folder with"
    ):
        stanford_cars(folder)
