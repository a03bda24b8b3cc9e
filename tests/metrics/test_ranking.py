import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from tutelage.metrics import auroc, average_precision

scored = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 0.5]) | st.floats(-5, 5), st.integers(0, 1)), min_size=2, max_size=60
).filter(lambda pairs: len({label for _, label in pairs}) == 2)


@settings(max_examples=200, deadline=None)
@given(pairs=scored)
def test_equals_scikit_learn(pairs):
    scores, labels = map(np.array, zip(*pairs, strict=True))
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    defects = average_precision_score(1 - labels, -scores)
    assert average_precision(scores, labels, positive=0) == pytest.approx(defects, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(pairs=scored)
def test_auroc_counts_pairs_and_reverses_with_the_scores(pairs):
    scores, labels = map(np.array, zip(*pairs, strict=True))
    gaps = scores[labels == 1][:, None] - scores[labels == 0]
    assert auroc(scores, labels) == pytest.approx(((gaps > 0) + 0.5 * (gaps == 0)).mean(), abs=1e-12)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)


def test_errors():
    with pytest.raises(ValueError, match="NaN"):
        auroc([0.0, np.nan], [0, 1])
    with pytest.raises(ValueError, match="no example has label 0"):
        average_precision([0.0, 1.0], [1, 1])
    with pytest.raises(ValueError, match="positive"):
        average_precision([0.0, 1.0], [0, 1], positive=2)
