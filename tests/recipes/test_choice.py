"""The choice of what is served: never worse than plain fine-tuning beyond noise, and most of the gain stays."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from tutelage.metrics import Calibration, auroc
from tutelage.recipes.moderation.choice import Choice, _why, bounded, choose, probability

N_HELD, N_TEST = 1000, 6000


def simulated(seed: int, *, student: float, copied: float = 0.0, noise: float = 0.2) -> tuple[Choice, dict[str, float]]:
    """Plain fine-tuning, and a student whose errors are ``student`` times as large, of its own or on top of ``copied`` ones."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(N_HELD + N_TEST) < 0.75).astype(np.int64)
    wrong = (rng.random(truth.size) < noise) & (np.arange(truth.size) < N_HELD)
    labels = np.where(wrong, 1 - truth, truth)
    plain, own = rng.normal(size=truth.size), rng.normal(size=truth.size)
    parts = {
        "fine_tuned": 3.0 * (2 * truth - 1 + 0.6 * plain),
        "student": 5.0 * (2 * truth - 1 + 0.6 * (copied * plain + student * own)) - 2.0,  # on another scale
    }
    held_out, test = np.arange(N_HELD), np.arange(N_HELD, truth.size)
    made = choose(parts, labels, held_out, held_out)
    return made, {name: auroc(each.log_odds[test], truth[test]) for name, each in made.candidates.items()}


def test_in_fifty_runs_a_student_that_knows_nothing_never_makes_it_worse_than_fine_tuning_beyond_noise():
    """Nor does one that knows little, or one that is fine-tuning with more errors."""
    kinds = [{"student": 1e3}, {"student": 4.0}, {"student": 1.0, "copied": 1.0}, {"student": 3.0, "copied": 1.0}]
    worse = []
    for seed in range(50):
        made, areas = simulated(seed, **kinds[seed % len(kinds)])
        worse.append(areas["fine_tuned"] - areas[made.chosen])
        assert areas["student"] < areas["fine_tuned"]
    assert max(worse) < 0.008  # two standard errors of a difference, as 1,000 held-out labels see it, are 0.01
    assert np.mean(worse) < 0.001


def test_where_the_student_helps_nine_tenths_of_the_gain_stay():
    kept, there = 0.0, 0.0
    for seed in range(8):
        made, areas = simulated(seed, student=(0.5, 1.0)[seed % 2])
        kept += areas[made.chosen] - areas["fine_tuned"]
        there += max(areas.values()) - areas["fine_tuned"]
    assert there > 0
    assert kept >= 0.9 * there


def test_a_model_that_another_one_beats_is_in_no_mean():
    rng = np.random.default_rng(2)
    truth = (rng.random(3000) < 0.7).astype(np.int64)
    parts = {"fine_tuned": 2.0 * truth + rng.normal(size=3000), "student": 2.0 * truth + rng.normal(size=3000)}
    parts["specialists"] = rng.normal(size=3000)
    made = choose(parts, truth, np.arange(2000), np.arange(2000))
    means = ["fine_tuned+student", "fine_tuned+student+specialists"]
    assert list(made.candidates) == ["fine_tuned", "student", "specialists", *means]
    assert made.chosen == "fine_tuned+student"


def test_two_models_that_err_apart_are_averaged():
    rng = np.random.default_rng(1)
    truth = (rng.random(3000) < 0.7).astype(np.int64)
    parts = {name: 2.0 * truth + rng.normal(size=3000) for name in ("student", "fine_tuned", "specialists")}
    made = choose(parts, truth, np.arange(2000), np.arange(2000))
    assert list(made.candidates)[:3] == ["fine_tuned", "student", "specialists"]
    assert made.chosen == "fine_tuned+student+specialists"
    assert made.served.gain == max(each.gain for each in made.candidates.values())
    weights, offset = made.served.committee()
    raw = sum(weight * parts[name] for weight, name in zip(weights, made.served.members, strict=True)) + offset
    assert made.served.log_odds == pytest.approx(raw)
    assert made.served.scores == pytest.approx(expit(raw))


def test_all_candidates_are_calibrated_by_the_same_error_rates_of_the_labels():
    made, _ = simulated(3, student=1.0)
    assert made.errors == pytest.approx((0.2, 0.2), abs=0.05)
    for each in made.candidates.values():
        assert (each.calibration.false_acceptable, each.calibration.false_defective) == made.errors
    assert logit(made.served.scores[:50]) == pytest.approx(made.served.log_odds[:50])


def test_what_held_out_labels_clearly_prefer_is_served_alone():
    """A student that is fine-tuning with more errors makes the mean worse, and many labels show it."""
    rng = np.random.default_rng(0)
    truth = (rng.random(8000) < 0.7).astype(np.int64)
    plain = 2.5 * (2 * truth - 1) + rng.normal(size=8000)
    both = {"fine_tuned": plain, "student": plain + 2.0 * rng.normal(size=8000)}
    made = choose(both, truth, np.arange(8000), np.arange(8000))
    assert made.chosen == "fine_tuned"
    assert made.why == "no other candidate explains held-out labels better"
    worse = made.candidates["fine_tuned+student"]
    assert worse.gain < -1.3 * worse.error


def test_the_choice_says_why_and_is_a_function_of_its_arguments():
    made, _ = simulated(5, student=0.4)
    told = f"{made.served.gain:.4f} ± {made.served.error:.4f}"
    assert made.why.startswith(f"held-out labels are likelier than by plain fine-tuning, by {told} nats each")
    again, _ = simulated(5, student=0.4)
    assert again.plain() == made.plain()
    rng = np.random.default_rng(0)
    truth = np.arange(100) % 2
    alone = choose({"fine_tuned": truth + rng.normal(size=100)}, truth, np.arange(100), np.arange(100))
    assert (alone.chosen, alone.why) == ("fine_tuned", "there is no other candidate")
    assert alone.plain()["candidates"]["fine_tuned"]["gain"] == 0


def test_the_choice_calls_nothing_likelier_that_is_not():
    made, _ = simulated(5, student=0.4)
    served = made.served
    for gain, words in (
        (
            -0.0006,
            f"held-out labels are about as likely as by plain fine-tuning (-0.0006 ± {served.error:.4f} nats each)",
        ),
        (-5.0, f"held-out labels are less likely than by plain fine-tuning, by 5.0000 ± {served.error:.4f} nats each"),
    ):
        assert served.error > 0.0006
        candidates = {**made.candidates, made.chosen: replace(served, gain=gain)}
        said = _why(candidates, "fine_tuned", made.chosen)
        assert (
            said
            == f"{words}; plain fine-tuning, the best by held-out labels (+0.0000), is not better with 90% confidence"
        )


def test_labels_without_a_say_leave_the_choice_as_it_is_and_the_level_to_all():
    rng = np.random.default_rng(2)
    truth = (rng.random(4000) < 0.6).astype(np.int64)
    parts = {name: truth + rng.normal(size=4000) for name in ("fine_tuned", "student")}
    everything = np.arange(4000)
    heard = everything[(truth == 1) | (rng.random(4000) < 0.4)]  # most defects have no say
    biased = choose(parts, truth, heard, heard)
    made = choose(parts, truth, heard, heard, level=everything)
    assert made.chosen == biased.chosen
    assert made.served.gain == biased.served.gain
    assert biased.served.scores.mean() > truth.mean() + 0.05
    assert made.served.scores.mean() == pytest.approx(truth.mean(), abs=0.01)
    assert np.array_equal(np.argsort(made.served.log_odds), np.argsort(biased.served.log_odds))


def test_scores_of_a_step_are_bounded_and_keep_their_order():
    raw = np.linspace(-2.0, 2.0, 401)
    step = Calibration(27.0, 34.0, 0.2, 0.2)
    flatter = bounded(step, raw)
    scores = probability(flatter.log_odds(raw))
    assert len(np.unique(probability(step.log_odds(raw)))) < 300
    assert (np.diff(scores) > 0).all()
    assert flatter.log_odds(raw).max() == pytest.approx(30.0)
    assert flatter.offset / flatter.slope == pytest.approx(34 / 27)
    gentle = Calibration(1.5, -0.5, 0.1, 0.1)
    assert bounded(gentle, raw) == gentle
