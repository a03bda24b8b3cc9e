"""Features of texts: the same after a trip to the disk, and batches that are rows of them."""

import numpy as np
import pytest
import torch

from tutelage.data import FeatureRows, Features, FeatureSettings

TEXTS = ["Call me now", "call me later", "I love this song", "this song, this song!", "now or never"]


def test_tf_idf_by_hand():
    features = Features.fit(TEXTS, FeatureSettings(ngrams=(1, 1), min_count=2))
    assert features.vocabulary == ["call", "me", "now", "song", "this"]
    found = features(["this this song", "unknown"]).toarray()
    idf = 1 + np.log(6 / 3)  # every kept word stands in two of five texts
    expected = np.array([0, 0, 0, idf, (1 + np.log(2)) * idf])
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), rtol=1e-6)
    assert (found[1] == 0).all()


def test_features_come_back_from_disk(tmp_path):
    features = Features.fit(TEXTS, FeatureSettings(min_count=1, max_features=8))
    features.save(tmp_path)
    again = Features.load(tmp_path)
    assert again.settings == features.settings
    assert (again(TEXTS) != features(TEXTS)).nnz == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_rows_of_features_are_batches():
    features = Features.fit(TEXTS, FeatureSettings(min_count=1))(TEXTS)
    fired = torch.tensor([[0], [1], [0], [1], [1]])
    data = FeatureRows(features, label=torch.arange(5), fired=fired, beside=["fired"])
    part = data.subset(torch.tensor([4, 1]), label=torch.zeros(5))
    assert len(part) == 2
    batch = part.batch([1, 0])
    assert batch["index"].tolist() == [1, 4]
    torch.testing.assert_close(batch["input"][:, :-1], torch.from_numpy(features[[1, 4]].toarray()))
    assert batch["input"][:, -1].tolist() == [1, 1]
    assert batch["label"].tolist() == [0, 0]
    assert part[0]["index"] == 4
    dense = FeatureRows(features.toarray(), label=torch.arange(5))
    torch.testing.assert_close(dense.batch([2])["input"], torch.from_numpy(features[[2]].toarray()))


def test_mistakes(tmp_path):
    with pytest.raises(ValueError, match=r"occurs in features\.min_count=9 of 5 texts; give a lower one"):
        Features.fit(TEXTS, FeatureSettings(min_count=9))
    with pytest.raises(ValueError, match="ngrams=\\(2, 1\\)"):
        FeatureSettings(ngrams=(2, 1))
    with pytest.raises(ValueError, match="max_features=0"):
        FeatureSettings(max_features=0)
    with pytest.raises(FileNotFoundError, match=r"features.json does not exist"):
        Features.load(tmp_path)


def test_a_language_without_spaces_is_read_by_its_characters(tmp_path):
    texts = ["我喜欢足球", "足球比赛今天", "股票今天上涨", "上涨的股票", "银行股票"]
    features = Features.fit(texts, FeatureSettings(min_count=2))
    assert features.settings.kind == "chars"
    assert {"足球", "股票", "今天"} <= set(features.vocabulary)
    features.save(tmp_path)
    assert (Features.load(tmp_path)(texts) != features(texts)).nnz == 0
    assert Features.fit(["a b", "a b c"], FeatureSettings(kind="chars")).settings.kind == "chars"
