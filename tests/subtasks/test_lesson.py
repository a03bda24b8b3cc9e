import numpy as np
import pytest
import torch
from scipy.stats import norm

from tutelage.subtasks import Lesson, LessonSettings, joint_log_odds, prepare
from tutelage.subtasks.lesson import two_way

LABEL = torch.tensor([0, 0, 0, 1, 1, -1, -1, -1, 0, 1])  # rows 0-4 train, 5-7 unlabelled, 8 and 9 of another split
SUBTASK = torch.tensor([0, 1, 2, -1, -1, -1, -1, -1, -1, -1])
TRAIN, UNLABELLED = torch.arange(5), torch.tensor([5, 6, 7])
KEPT = torch.tensor([True, False, True])
JOINT = torch.tensor([-3.0, -2, 2, 3, -0.5, 1, -1, 0, -4, 4], dtype=torch.float64)
PROBABILITIES = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])  # kept, not kept, not sure
PAPER = LessonSettings(rejected="dropped", contradicted=0, substitute=False, unlabelled="none")


def lesson(
    settings: LessonSettings, kept_K: torch.Tensor = KEPT, probabilities: torch.Tensor = PROBABILITIES
) -> Lesson:
    return prepare(
        LABEL,
        SUBTASK,
        kept_K,
        JOINT,
        TRAIN,
        settings,
        precision_K=torch.tensor([0.9, 0.25, 0.8], dtype=torch.float64),
        unlabelled=UNLABELLED,
        unlabelled_probabilities=probabilities,
    )


def changed(**values: object) -> LessonSettings:
    return LessonSettings(**{**vars(PAPER), "rejected": "kept", **values})  # type: ignore[arg-type]


def test_a_rejected_sub_tasks_labels_count_as_much_as_its_precision_and_are_not_doubted_twice():
    found = lesson(changed(rejected="weighed", substitute=True, contradicted=0.9))
    assert found.label_weight.tolist() == [1, 0.25, *[1] * 8]
    assert found.label[:5].tolist() == [0, 0, -1, 1, -1]  # rows 2 and 4 are contradicted; row 1 is weighed
    assert found.substitute_logits is not None
    assert found.substitute_logits[:5].isfinite().all(1).tolist() == [False, True, True, False, True]
    assert found.subtask[1] == -1
    assert found.left_out["label weighed, sub-task not kept"] == 1


def test_two_way_logits_have_these_log_odds():
    assert torch.allclose(two_way(JOINT).softmax(-1)[:, 1], JOINT.sigmoid())


@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 2], [1]])
@pytest.mark.parametrize("points", [[0.0, 0.0, 0.0], [0.5, -2.0, 1.5]])
def test_the_joint_teacher_is_bayes_rule_for_a_mixture(kept, points):
    """A specialist that knows p(x | its defects) and p(x | acceptable) gives the log of their ratio.

    Its operating point b is a prior: it multiplies the share of its defects by e^b.
    """
    x = np.linspace(-6, 6, 49)
    acceptable = 0.7 * norm.pdf(x, 0, 1)
    defects_KN = np.stack([p * norm.pdf(x, m, s) for p, m, s in [(0.1, 3, 1), (0.01, -3, 0.5), (0.19, 5, 2)]])
    log_odds_NK = torch.from_numpy(np.log(acceptable / defects_KN)).T
    kept_K = torch.zeros(3, dtype=torch.bool)
    kept_K[kept] = True
    joint = joint_log_odds(log_odds_NK, torch.tensor(points, dtype=torch.float64), kept_K)
    posterior = acceptable / (acceptable + (np.exp(points)[:, None] * defects_KN)[kept].sum(0))
    assert torch.allclose(joint.sigmoid(), torch.from_numpy(posterior), rtol=1e-12, atol=1e-15)


def test_who_has_no_operating_point_or_no_scores_is_not_heard():
    log_odds_NK = torch.tensor([[1.0, 2.0, torch.nan]])
    all_three = torch.ones(3, dtype=torch.bool)
    points = torch.tensor([torch.nan, 0.5, torch.nan], dtype=torch.float64)
    assert joint_log_odds(log_odds_NK, points, all_three).tolist() == [1.5]
    assert joint_log_odds(log_odds_NK, points, torch.tensor([True, False, False])).isnan().all()
    assert joint_log_odds(log_odds_NK, points, ~all_three).isnan().all()
    extreme = torch.tensor([[1e4, 1e4], [-1e4, 1e4], [0.0, 1e4]])
    assert joint_log_odds(extreme, torch.zeros(2), all_three[:2]).tolist() == pytest.approx([1e4, -1e4, 0], abs=1)


@pytest.mark.parametrize(
    ("rejected", "rows", "label", "counted"),
    [
        ("dropped", [0, 2, 3, 4], 0, ["sub-task not kept"]),
        ("unlabelled", [0, 1, 2, 3, 4], -1, ["label taken away, sub-task not kept"]),
        ("kept", [0, 1, 2, 3, 4], 0, []),
    ],
)
def test_what_becomes_of_a_sub_task_that_is_not_kept(rejected, rows, label, counted):
    found = lesson(changed(rejected=rejected))
    assert found.rows.tolist() == rows
    assert found.label[1] == label
    assert found.subtask.tolist() == [0, -1, 2, -1, -1, -1, -1, -1, -1, -1]  # nobody's own example any more
    others = torch.arange(10) != 1
    assert torch.equal(found.label[others], LABEL[others])
    assert found.left_out == dict.fromkeys(counted, 1)
    assert torch.equal(found.teacher_logits, two_way(JOINT))
    assert found.substitute_logits is None


@pytest.mark.parametrize(("least", "taken"), [(0.0, []), (0.2, [2]), (0.4, [2, 4]), (1.0, [0, 1, 2, 3, 4])])
def test_a_label_that_the_joint_teacher_contradicts_is_taken_away(least, taken):
    """sigmoid(-2) = 0.12 for the defect in row 2, sigmoid(-0.5) = 0.38 for the acceptable one in row 4."""
    found = lesson(changed(contradicted=least))
    assert (found.label[TRAIN] == -1).nonzero().squeeze(1).tolist() == taken
    assert torch.equal(found.label[5:], LABEL[5:])  # what is judged by is never touched
    assert found.left_out.get("label taken away, contradicted by the kept specialists", 0) == len(taken)
    assert found.rows.tolist() == TRAIN.tolist()


@pytest.mark.parametrize("errors", [(0.2, 0.2), (0.05, 0.3)])
def test_a_calibrated_teacher_takes_a_label_away_only_where_bayes_rule_says_that_it_is_wrong(errors):
    """Many contradicted labels are wrong only where labels often are."""
    e0, e1 = errors
    p = JOINT.sigmoid().numpy()
    right = np.where(
        LABEL == 1, (1 - e1) * p / ((1 - e1) * p + e0 * (1 - p)), (1 - e0) * (1 - p) / ((1 - e0) * (1 - p) + e1 * p)
    )
    for least in (0.1, 0.3, 0.6):
        found = prepare(LABEL, SUBTASK, KEPT, JOINT, TRAIN, changed(contradicted=least), errors=errors)
        taken = (found.label[TRAIN] == -1).numpy()
        assert taken.tolist() == (right[TRAIN] < least).tolist()
        assert taken.sum() <= (right[TRAIN] < 0.6).sum()
    trusted = prepare(LABEL, SUBTASK, KEPT, JOINT, TRAIN, changed(contradicted=0.9), errors=(0.0, 0.0))
    assert torch.equal(trusted.label, LABEL)


def test_by_default_a_rejected_sub_tasks_labels_stay():
    assert lesson(LessonSettings(contradicted=0)).label[1] == 0


def test_where_nobody_speaks_nothing_is_contradicted_and_a_joint_teacher_is_refused():
    silence = torch.full((10,), torch.nan)
    silent = prepare(LABEL, SUBTASK, KEPT, silence, TRAIN, changed(contradicted=0.9, teacher="own"))
    assert torch.equal(silent.label, LABEL)
    with pytest.raises(ValueError, match="operating point"):
        prepare(LABEL, SUBTASK, KEPT, silence, TRAIN, changed(teacher="joint"))


def test_the_substitute_speaks_where_there_is_no_label_and_only_there():
    found = lesson(changed(contradicted=0.2, substitute=True))
    assert found.substitute_logits is not None
    missing = found.label < 0
    assert torch.equal(found.substitute_logits[missing], two_way(JOINT)[missing])
    assert found.substitute_logits[~missing].isnan().all()


def test_unlabelled_images_join_a_kept_sub_task_with_confidence_and_never_get_a_label():
    found = lesson(changed(unlabelled="kept", confidence=0.5))
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.subtask[5:8].tolist() == [0, -1, -1]
    assert found.label[5:8].tolist() == [-1, -1, -1]
    assert found.left_out == {"unlabelled, not taken": 2}
    less = lesson(changed(unlabelled="kept", confidence=0.4))
    assert less.rows.tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert less.subtask[7] == 2
    everybody = lesson(changed(unlabelled="kept", confidence=0.0), kept_K=torch.ones(3, dtype=torch.bool))
    assert everybody.subtask[5:8].tolist() == [0, 1, 2]
    assert everybody.left_out == {"unlabelled, not taken": 0}


def test_all_unlabelled_images_or_the_most_confident():
    found = lesson(changed(unlabelled="all"))
    assert found.rows.tolist() == list(range(8))
    assert found.subtask[5:8].tolist() == [0, -1, 2]  # the second is of a sub-task that is not kept
    few = lesson(changed(unlabelled="all", unlabelled_share=0.3))  # 0.3 / 0.7 of the five labelled ones: two
    assert few.rows.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert few.left_out == {"unlabelled, not taken": 1}
    assert lesson(changed(unlabelled="all", unlabelled_share=0.0)).rows.tolist() == TRAIN.tolist()


def test_a_discriminator_that_knows_what_is_acceptable_may_say_so():
    with_acceptable = torch.cat([PROBABILITIES / 2, torch.full((3, 1), 0.5)], dim=1)
    found = lesson(changed(unlabelled="kept", confidence=0.3), probabilities=with_acceptable)
    assert found.subtask[5:8].tolist() == [0, -1, -1]


def test_the_arguments_are_left_as_they_are():
    label, subtask = LABEL.clone(), SUBTASK.clone()
    lesson(LessonSettings())
    assert torch.equal(label, LABEL)
    assert torch.equal(subtask, SUBTASK)


def test_nobody_is_kept():
    with pytest.raises(ValueError, match=r"none of the 3 specialists was kept, so nobody can teach; lower"):
        lesson(PAPER, kept_K=torch.zeros(3, dtype=torch.bool))


def test_labels_count_by_the_probability_that_they_are_right_and_nothing_else_is_taken_away():
    right = torch.tensor([0.9, 0.1, 1.0, 0.7, 1.0, 1, 1, 1, 1, 1])
    found = prepare(
        LABEL,
        SUBTASK,
        KEPT,
        JOINT,
        TRAIN,
        changed(contradicted=0.9, rejected="unlabelled", substitute=True),
        right=right,
    )
    assert found.label_weight[TRAIN].tolist() == pytest.approx([0.9, 0.1, 1.0, 0.7, 1.0])
    assert found.label.tolist() == LABEL.tolist()
    assert found.left_out == {"label rather wrong than right": 1}
    assert found.substitute_logits is not None
    assert torch.isfinite(found.substitute_logits[:, 0]).tolist() == [
        True,
        True,
        False,
        True,
        False,
        *[True] * 3,
        False,
        False,
    ]
