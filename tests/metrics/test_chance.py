from itertools import combinations

import numpy as np
import pytest

from tutelage.metrics import beyond_chance
from tutelage.metrics.chance import savage_scores


def test_savages_scores_by_hand():
    lowest, second, third, highest = (
        1 + 1 / 2 + 1 / 3 + 1 / 4 - 1,
        1 / 2 + 1 / 3 + 1 / 4 - 1,
        1 / 3 + 1 / 4 - 1,
        1 / 4 - 1,
    )
    assert savage_scores([3.0, 1.0, 9.0, 2.0]) == pytest.approx([third, lowest, highest, second])
    tied = (second + third) / 2
    assert savage_scores([2.0, 1.0, 9.0, 2.0]) == pytest.approx([tied, lowest, highest, tied])
    assert savage_scores(np.random.default_rng(0).random(500)).sum() == pytest.approx(0)


def test_one_judges_p_value_is_that_of_all_orders_of_the_labels():
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=10), np.repeat([0, 1], [3, 7])
    scores[:3] -= 0.7
    evidence = savage_scores(scores)
    every = [evidence[list(chosen)].sum() for chosen in combinations(range(10), 3)]
    exact = np.mean(np.array(every) >= evidence[:3].sum() - 1e-12)
    assert beyond_chance(scores[:, None], labels, resamples=20_000)[0] == pytest.approx(exact, abs=0.015)


def test_useless_judges_are_found_out_at_the_level_that_is_asked_for():
    """Among 20 useless judges any is believed in at most 5 % of 200 draws, whether they agree or not."""
    labels, false = np.repeat([0, 1], [40, 110]), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=(150, 20)) + rng.normal(size=(150, 1)) * (seed % 2)
        false += bool((beyond_chance(scores, labels, resamples=200, seed=seed) <= 0.05).any())
    assert false <= 18  # 99.5 % of the binomial distribution of 200 and 0.05


def test_a_judge_who_knows_one_defect_in_ten_is_found_among_useless_ones():
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [200, 800])
    scores = rng.normal(size=(1000, 20))
    scores[:20, 7] -= 8
    found = beyond_chance(scores, labels)
    assert found[7] < 0.01
    assert np.delete(found, 7).min() > 0.05


def test_judges_who_agree_are_not_punished_for_being_many():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [50, 200])
    score = rng.normal(size=(250, 1))
    score[:50] -= 0.4
    alone = beyond_chance(score, labels)[0]
    assert beyond_chance(np.repeat(score, 30, axis=1), labels) == pytest.approx([alone] * 30)
    useless = np.concatenate([score, rng.normal(size=(250, 29))], axis=1)
    assert beyond_chance(useless, labels)[0] > alone


def test_a_constant_judge_and_one_who_is_always_wrong_know_nothing():
    labels = np.repeat([0, 1], [20, 40])
    scores = np.stack([np.zeros(60), 1.0 - labels, labels - 0.5], axis=1)
    found = beyond_chance(scores, labels)
    assert found[:2].min() > 0.9
    assert found[2] == pytest.approx(1 / 4001)
    assert beyond_chance(np.zeros((60, 0)), labels).shape == (0,)


def test_what_cannot_be_tested():
    with pytest.raises(ValueError, match=r"must be \(N, K\) and finite"):
        beyond_chance([[np.nan], [1.0]], [0, 1])
    with pytest.raises(ValueError, match="resamples=0"):
        beyond_chance([[0.0], [1.0]], [0, 1], resamples=0)
    with pytest.raises(ValueError, match="no example has label 0"):
        beyond_chance([[0.0], [1.0]], [1, 1])
