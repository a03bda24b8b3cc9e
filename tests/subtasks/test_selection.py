from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.metrics import auroc, beyond_chance, bootstrap, local_precision, npv_at_fpr, npv_floor
from tutelage.subtasks import SelectionSettings as Settings
from tutelage.subtasks import VacuousThreshold, select, selection
from tutelage.subtasks.selection import otsu

PAPER = np.repeat([0, 1], [160, 960])  # teacher-test of the paper's Table 1
KINDS = 4
few_resamples = partial(bootstrap, resamples=20)
SelectionSettings = partial(Settings, significance=1.0)  # the rules alone; what lies beyond them is tested below


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "bootstrap", few_resamples)


def noise(specialists: int, labels: np.ndarray = PAPER, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((len(labels), specialists))


def experts(seed: int = 1) -> np.ndarray:
    """For each of four kinds of defects a specialist that is sure of those, and knows nothing of the others."""
    scores_NK = noise(KINDS, seed=seed)
    for kind in range(KINDS):
        scores_NK[kind:160:KINDS, kind] -= 1
    return scores_NK


def between(values: np.ndarray, threshold: float) -> float:
    """Otsu's criterion: the variance between what lies below and above."""
    low, high = values[values < threshold], values[values >= threshold]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0


@given(st.lists(st.integers(0, 30), min_size=2, max_size=20))
def test_otsu_is_the_best_threshold_by_brute_force(numbers):
    values = np.array(numbers) / 8
    every = np.unique(values)
    best = max([between(values, cut) for cut in (every[1:] + every[:-1]) / 2], default=0.0)
    assert between(values, otsu(values)) == pytest.approx(best)


def test_otsu_where_nothing_can_be_parted():
    assert otsu(np.array([0.3, 0.3])) == 0.3
    assert otsu(np.array([0.2])) == 0.2
    assert otsu(np.array([])) == 0.0


def test_the_papers_threshold_keeps_pure_noise_and_says_so():
    """NPV at 1 % FPR cannot fall below 159 / (159 + 960) on the paper's own split."""
    with pytest.warns(VacuousThreshold, match=r"threshold=0.1 is not above 0.1421, the lowest NPV at 1% FPR that 160"):
        verdict = select(noise(6), PAPER, SelectionSettings(rule="npv", threshold=0.1))
    assert verdict.kept.all()
    assert verdict.npv.min() >= npv_floor(160, 960, 0.01) == pytest.approx(159 / (159 + 960))
    worst = np.where(PAPER == 0, 1.0, 0.0)[:, None]  # a judge who is always wrong
    with pytest.warns(VacuousThreshold):
        assert select(worst, PAPER, SelectionSettings(rule="npv", threshold=0.1)).kept.all()


def test_local_precision_tells_noise_from_competence():
    scores_NK = np.concatenate([experts(), noise(6, seed=2)], axis=1)
    verdict = select(scores_NK, PAPER, SelectionSettings())
    assert verdict.kept.tolist() == [True] * KINDS + [False] * 6
    by_npv = select(scores_NK, PAPER, SelectionSettings(rule="npv", threshold=0.17))
    assert not by_npv.kept[:KINDS].all()  # which asks every specialist for every defect
    assert verdict.reasons[0] == f"local precision {verdict.competence[0]:.3f} reaches {verdict.threshold:.3f}"
    assert verdict.reasons[-1] == f"local precision {verdict.competence[-1]:.3f} is below {verdict.threshold:.3f}"


def test_the_threshold_is_half_way_between_chance_and_otsus():
    scores_NK = np.concatenate([experts(), noise(6, seed=2)], axis=1)
    verdict = select(scores_NK, PAPER, SelectionSettings())
    assert verdict.threshold == (160 / 1120 + otsu(verdict.competence)) / 2


def test_the_threshold_lets_perfect_specialists_pass():
    perfect = (PAPER - 0.5 + 0.1 * noise(1)[:, 0])[:, None].repeat(3, axis=1)
    verdict = select(perfect, PAPER, SelectionSettings())
    assert verdict.threshold == pytest.approx((160 / 1120 + verdict.competence[0]) / 2)
    assert verdict.kept.all()


@pytest.mark.parametrize("rule", ["precision", "npv", "lift", "top"])
def test_what_is_measured(rule):
    measure = {
        "precision": lambda scores, labels: local_precision(scores, labels, 0.05),
        "top": lambda scores, labels: local_precision(scores, labels, 0.05),
        "npv": lambda scores, labels: npv_at_fpr(scores, labels, 0.03),
        "lift": lambda scores, labels: npv_at_fpr(scores, labels, 0.03) - npv_floor(160, 960, 0.03),
    }[rule]
    scores_NK = experts()[:, :2]
    verdict = select(scores_NK, PAPER, SelectionSettings(rule=rule, threshold=0.3, flagged=0.05, fpr=0.03), seed=5)
    for k, scores in enumerate(scores_NK.T):
        interval = few_resamples(measure, scores, PAPER, seed=5)
        assert (verdict.competence[k], verdict.low[k], verdict.high[k]) == (interval.value, interval.low, interval.high)
        assert verdict.npv[k] == npv_at_fpr(scores, PAPER, 0.03)
        assert verdict.local_precision[k] == local_precision(scores, PAPER, 0.05)
        assert verdict.auroc[k] == auroc(scores, PAPER)
    if rule != "top":
        assert verdict.kept.tolist() == (verdict.competence >= 0.3).tolist()
        assert verdict.threshold == 0.3


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (0.01, 1), (0.2, 1), (0.21, 2), (0.5, 3), (1.0, 5)])
def test_the_top_share(share, kept):
    labels = np.repeat([0, 1], [20, 60])
    scores_NK = noise(5, labels)
    scores_NK[:20] -= np.linspace(0, 1, 5)
    verdict = select(scores_NK, labels, SelectionSettings(rule="top", threshold=share, flagged=0.1))
    assert verdict.kept.sum() == kept
    if 0 < kept < 5:
        assert verdict.competence[verdict.kept].min() >= verdict.competence[~verdict.kept].max()


def test_ties_go_by_auroc_then_by_number():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    surer = np.array([0, 1, 4, 3, 5, 6, 7, 8.0])  # one acceptable example is before the third defect
    less = np.array([0, 1, 8, 3, 4, 5, 6, 7.0])
    scores_NK = np.stack([less, surer, surer], axis=1)  # the two that are flagged first are defects in all three
    verdict = select(scores_NK, labels, SelectionSettings(rule="top", threshold=1 / 3))
    assert len(set(verdict.local_precision)) == 1
    assert verdict.kept.tolist() == [False, True, False]
    again = select(scores_NK, labels, SelectionSettings(rule="top", threshold=1 / 3))
    assert again.kept.tolist() == verdict.kept.tolist()
    assert again.reasons == verdict.reasons


def test_failures_are_not_kept_and_say_why():
    scores_NK = experts()
    scores_NK[:, 1] = np.nan
    scores_NK[3, 2] = np.inf
    for settings in (SelectionSettings(), SelectionSettings("top", 1.0), SelectionSettings("lift", -1.0)):
        verdict = select(scores_NK, PAPER, settings, failures={1: "ValueError: too hot"})
        assert verdict.kept.tolist() == [True, False, False, True]
        assert verdict.reasons[1:3] == ["its training failed: ValueError: too hot", "its scores are not finite"]
        assert np.isnan(verdict.competence[1:3]).all()
        assert np.isfinite(verdict.competence[[0, 3]]).all()


def test_when_all_have_failed_nobody_is_kept():
    for settings in (SelectionSettings(), SelectionSettings("top", 0.5)):
        verdict = select(np.full((1120, 2), np.nan), PAPER, settings)
        assert not verdict.kept.any()


@pytest.mark.parametrize("rule", ["npv", "lift", "top"])
def test_a_rule_without_its_threshold(rule):
    with pytest.raises(ValueError, match=rf"selection.rule='{rule}' needs selection.threshold"):
        SelectionSettings(rule=rule)


def test_a_specialist_counts_only_where_its_evidence_excludes_chance():
    """Half of the useless ones pass the relative rule; none passes the test, and those who know something do."""
    useless = select(noise(20), PAPER, SelectionSettings())
    assert useless.kept.sum() >= 5
    tested = select(noise(20), PAPER, Settings())
    assert not tested.kept.any()
    assert tested.p_value.tolist() == beyond_chance(noise(20), PAPER).tolist()
    for reason, passes, p in zip(tested.reasons, useless.kept, tested.p_value, strict=True):
        joined = "but" if passes else "and"
        assert reason.endswith(f", {joined} the best of 20 that know nothing does as well with probability {p:.2g}")
    both = select(np.concatenate([experts(), noise(16, seed=2)], axis=1), PAPER, Settings())
    assert both.kept.tolist() == [True] * KINDS + [False] * 16


def test_where_all_that_is_flagged_is_right_the_interval_leaves_one():
    """15 defects below all of 200 acceptable examples, of which 2 % may be flagged: 15 of 15, and none of the 4 is reached."""
    labels = np.repeat([0, 1], [15, 200])
    scores = np.where(labels == 0, -5.0, np.arange(215.0) / 215)
    verdict = select(scores[:, None], labels, SelectionSettings(rule="npv", threshold=0.5, fpr=0.0))
    assert verdict.competence[0] == 1.0
    assert (verdict.low[0], verdict.high[0]) == (pytest.approx(0.025 ** (1 / 15)), 1.0)
    swapped = select(scores[:, None], labels, SelectionSettings(threshold=0.5, flagged=0.0))
    assert (swapped.competence[0], swapped.low[0]) == (1.0, pytest.approx(0.025 ** (1 / 15)))


def test_a_failure_is_not_tried_and_does_not_count_as_one():
    scores_NK = np.concatenate([experts(), np.full((1120, 30), np.nan)], axis=1)
    verdict = select(scores_NK, PAPER, Settings())
    assert verdict.p_value[:KINDS].tolist() == beyond_chance(experts(), PAPER).tolist()
    assert np.isnan(verdict.p_value[KINDS:]).all()
    assert not select(np.full((1120, 2), np.nan), PAPER, Settings()).kept.any()
