"""What is served: never worse than plain training beyond noise, and most of the gain stays; said in full."""

import numpy as np
import pytest

from tutelage.recipes.served import serve_best, serve_mean, unbeaten
from tutelage.reports.wording import why_served

NAMES = {"ce": "the labels alone", "amal": "AMAL", "kd": "distillation"}


def accuracy(answers, labels):
    return float((answers == labels).mean())


def chosen(answers, labels, asked="amal"):
    answers = {name: [np.asarray(each)] for name, each in answers.items()}
    return serve_best(accuracy, answers, [np.asarray(labels)], criterion="accuracy", plain="ce", asked=asked)


def simulated(seed: int, gains: dict[str, float], shown: int = 1000, wrong: float = 0.0) -> float:
    """Return the accuracy of what is served less that of plain training, 0.8, on examples that chose nothing.

    ``shown`` examples choose, of whose labels a share is wrong; the candidates' mistakes overlap with those of plain training.
    """
    rng = np.random.default_rng(seed)
    count = shown + 20_000
    luck, truth = rng.random(count), rng.integers(10, size=count)
    labels = np.where(rng.random(count) < wrong, rng.integers(10, size=count), truth)
    answers = {}
    for name, gain in {"ce": 0.0, **gains}.items():
        hard = np.where(rng.random(count) < 0.3, rng.random(count), luck)
        answers[name] = np.where(hard < 0.8 + gain, truth, (truth + 1) % 10)
    served = chosen({name: each[:shown] for name, each in answers.items()}, labels[:shown]).chosen
    right = {name: float((each == truth)[shown:].mean()) for name, each in answers.items()}
    return right[served] - right["ce"]


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_in_fifty_runs_what_is_useless_never_makes_it_worse_beyond_noise(wrong):
    kinds = [{"amal": -0.7}, {"amal": -0.1, "kd": -0.05}, {"amal": -0.02}, {"amal": 0.0, "kd": 0.0}]
    lost = [simulated(seed, kinds[seed % len(kinds)], wrong=wrong) for seed in range(50)]
    assert min(lost) > -0.04  # two standard errors of a difference on 1,000 examples
    assert np.mean(lost) > -0.004


def test_where_a_method_helps_nine_tenths_of_the_gain_stay():
    gains = [0.03 + 0.02 * (seed % 3) for seed in range(50)]  # 3, 5 and 7 standard errors
    kept = [simulated(seed, {"amal": gain}) for seed, gain in enumerate(gains)]
    assert np.sum(kept) >= 0.9 * np.sum(gains)


def test_of_equal_candidates_plain_training_is_served_and_then_what_was_asked_for():
    labels = [0, 1, 2, 3] * 10
    same, better = [0, 1, 0, 0] * 10, [0, 1, 2, 0] * 10
    assert chosen({"kd": same, "amal": same, "ce": same}, labels).chosen == "ce"
    assert chosen({"kd": better, "amal": better, "ce": same}, labels).chosen == "amal"
    assert chosen({"kd": better, "amal": better, "ce": same}, labels, asked="kd").chosen == "kd"


@pytest.mark.parametrize(("gained", "lost", "served"), [(2, 0, "ce"), (3, 0, "amal"), (30, 27, "ce"), (36, 24, "amal")])
def test_a_candidate_must_be_better_in_nine_of_ten_resamples(gained, lost, served):
    """Of n examples that only one of two answers rightly the candidate must have about n / 2 + 1.28 sqrt(n) / 2."""
    labels = np.zeros(400, int)
    plain, ours = labels.copy(), labels.copy()
    plain[:gained], ours[gained : gained + lost] = 1, 1
    found = chosen({"amal": ours, "ce": plain}, labels)
    assert found.chosen == served
    assert (found.gains["amal"].positive >= 0.9) == (served == "amal")


def test_of_few_examples_nothing_is_surely_better():
    labels = np.zeros(20, int)
    right, wrong = labels, labels + 1
    assert chosen({"amal": right, "ce": wrong}, labels).chosen == "amal"
    found = chosen({"amal": right[1:], "ce": wrong[1:]}, labels[1:])
    assert (found.chosen, found.why) == (
        "ce",
        "since 19 examples are too few to tell whether another candidate is better",
    )


@pytest.mark.parametrize(
    ("plain", "other", "served"), [(0.4, 0.52, "amal"), (0.52, 0.54, "ce"), (0.4, 0.45, "ce"), (0.5, 0.51, "amal")]
)
def test_what_is_worthless_is_not_served_where_another_candidate_is_not(plain, other, served):
    labels = np.zeros(100, int)
    answers = {
        "ce": [(np.arange(100) >= 100 * plain).astype(int)],
        "amal": [(np.arange(100) < 100 * (1 - other)).astype(int)],
    }
    found = serve_best(accuracy, answers, [labels], criterion="accuracy", plain="ce", asked="amal", worthless=0.5)
    assert found.chosen == served
    assert (found.why == "since plain training is worthless") == (
        served == "amal" and found.gains["amal"].positive < 0.9
    )


def test_what_is_said_of_a_gain_follows_its_interval():
    labels = np.zeros(400, int)
    plain, ours = labels.copy(), labels.copy()
    plain[:36], ours[36:60] = 1, 1
    found = chosen({"amal": ours, "ce": plain}, labels)
    assert found.gains["amal"].low <= 0
    [told] = why_served(found.told(), NAMES)
    assert told.startswith("Served: AMAL, probably better (in 9")
    assert "surely" not in told


def test_gains_are_those_of_the_same_examples_with_their_interval():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=400)
    plain, ours = (np.where(rng.random(400) < share, labels, 3) for share in (0.6, 0.9))
    found = chosen({"amal": ours, "ce": plain}, labels)
    gain = found.gains["amal"]
    assert gain.value == pytest.approx((ours == labels).mean() - (plain == labels).mean())
    spread = np.std((ours == labels).astype(float) - (plain == labels)) / 20
    assert (gain.high - gain.low) / 2 == pytest.approx(1.96 * spread, rel=0.15)
    told = found.told()
    assert told["candidates"]["ce"] == {"value": found.values["ce"], "gain": None}
    assert told["candidates"]["amal"] == {"value": found.values["amal"], "gain": gain.plain(), "better_in": 1.0}
    assert (told["chosen"], told["judged_on"]) == ("amal", 400)


def test_unbeaten_are_those_that_none_beats_in_nine_of_ten_resamples_and_the_best_always():
    labels = np.zeros(400, int)

    def wrong(*places):
        answers = labels.copy()
        answers[np.concatenate([np.arange(start, stop) for start, stop in places])] = 1
        return [answers]

    answers = {"ce": wrong((0, 40)), "amal": wrong((30, 66)), "kd": wrong((0, 80)), "same": wrong((0, 40))}
    assert unbeaten(accuracy, answers, [labels]) == ("ce", "amal", "same")
    assert unbeaten(accuracy, {name: answers[name] for name in ("kd", "ce")}, [labels]) == ("ce",)
    assert unbeaten(accuracy, {"kd": answers["kd"]}, [labels]) == ("kd",)


def test_the_mean_is_served_unless_one_beats_all_others_and_said_in_words():
    labels, half, none = [np.arange(400) % 4], [np.arange(400) % 2], [np.full(400, 7)]
    asked = {"criterion": "accuracy", "plain": "ce", "asked": "amal", "mean": "kd"}
    answers = {"ce": half, "amal": half, "kd": labels}
    found = serve_mean(accuracy, answers, labels, members=("ce", "amal"), **asked)
    assert (found.chosen, found.members) == ("kd", ("ce", "amal"))
    [told] = why_served(found.told(), NAMES)
    assert told.startswith(
        "Served: the mean of the labels alone and AMAL, none of which is surely worse than another by "
    )
    assert "There it is at +50.0 points against the labels alone" in told
    answers["amal"] = none
    [told] = why_served(serve_mean(accuracy, answers, labels, members=("ce",), copies=3, **asked).told(), NAMES)
    assert told.startswith(
        "Served: the mean of 3 trainings of the labels alone, not AMAL, since every other one is surely "
    )
    found = serve_mean(accuracy, {"ce": labels, "amal": none}, labels, members=("ce",), **asked)
    assert (found.chosen, found.members) == ("ce", ("ce",))
    [told] = why_served(found.told(), NAMES)
    assert told.startswith(
        "Served: the labels alone, not AMAL, since every other one is surely worse by accuracy (400 "
    )


def test_the_choice_is_said_in_words():
    labels = [0, 1, 2, 3] * 50
    right, wrong = labels, [0, 1, 2, 2] * 50
    [told] = why_served(chosen({"amal": wrong, "ce": right}, labels).told(), NAMES)
    assert told.startswith(
        "Served: the labels alone, not AMAL, since no other candidate is surely better by accuracy (200 examples). "
    )
    assert "There AMAL is at −25.0 points against the labels alone" in told
    [told] = why_served(chosen({"amal": right, "ce": wrong}, labels).told(), NAMES)
    assert told.startswith("Served: AMAL, surely better by accuracy")
    assert "There it is at +25.0 points against the labels alone" in told
    [told] = why_served(chosen({"amal": wrong, "kd": right, "ce": wrong}, labels).told(), NAMES)
    assert told.startswith("Served: distillation, not AMAL, surely better")
    assert why_served(chosen({"ce": right}, labels, asked="ce").told(), NAMES) == []


def test_the_only_one_served_is_called_surely_better_only_where_the_interval_says_so():
    labels = [np.arange(60) % 4]
    close = labels[0].copy()
    close[:3] = 9
    asked = {"criterion": "accuracy", "plain": "ce", "asked": "amal", "mean": "kd"}
    found = serve_mean(accuracy, {"ce": labels, "amal": [close]}, labels, members=("ce",), **asked)
    assert found.gains["amal"].high == 0  # of equal answers in some resamples
    assert found.why.startswith("since every other one is probably worse (in 9")
