"""The built-in digits are scikit-learn's."""

import numpy as np
from sklearn.datasets import load_digits

from tutelage.data.digits import handwritten_digits


def test_the_digits_of_the_file_in_its_order():
    source, found = load_digits(), handwritten_digits()
    assert len(found) == len(source.target) == 1797
    assert found.table["label"].tolist() == source.target.tolist()
    assert found.images[7].shape == (3, 8, 8)
    assert np.array_equal(found.images[7][1].numpy(), (source.images[7] * 255 / 16).round())
    assert found.table["id"].iloc[7] == "digit-0007"
    assert found.table["split"].value_counts().to_dict() == {"unassigned": 1348, "test": 449}
    assert (found.table["split"].iloc[1348:] == "test").all()
