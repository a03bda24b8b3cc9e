"""How good a model's label sets are: each image may have several labels, of which only one may be given."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.metrics.ranking import average_precision

Sets = NDArray[np.bool_]


def label_sets(scores: ArrayLike, threshold: float | None) -> Sets:
    """The predicted set of each image: its best class, and every class whose score is above the threshold.

        P_i = {argmax_c s_ic} + {c : s_ic > t}

    Args:
        scores: (N, C) numbers, such as sigmoids.
        threshold: t; None names the best class alone, as for a softmax.

    Returns:
        bool (N, C).

    Raises:
        ValueError: scores that are not (N, C) with C > 0, or NaN.
    """
    scores_NC = np.asarray(scores, dtype=np.float64)
    if scores_NC.ndim != 2 or scores_NC.shape[1] == 0:
        raise ValueError(f"scores must be (N, C) with C > 0; they are {scores_NC.shape}")
    _check_numbers(scores_NC)
    sets_NC = np.zeros(scores_NC.shape, dtype=np.bool_) if threshold is None else scores_NC > threshold
    sets_NC[np.arange(len(scores_NC)), scores_NC.argmax(1)] = True
    return sets_NC


def mean_set_size(sets: ArrayLike) -> float:
    """Mean number of labels in a set: the paper's label coverage, of which 1.15 means 15 % more labels than one per image.

    It stands beside every F1: where images have many labels, whoever names all of them scores high.
    """
    return float(np.asarray(sets, dtype=np.bool_).sum(1).mean())


def real_accuracy(scores: ArrayLike, truth: ArrayLike) -> float:
    """ReaL accuracy: the share of images whose best class is one of the true labels, of the images that have any.

        ReaL-Acc = mean over {i : Y_i not empty} of  1[argmax_c s_ic in Y_i]

    Args:
        scores: (N, C) numbers, the best class highest.
        truth: bool (N, C), the sets Y.

    Raises:
        ValueError: shapes that differ, scores that are NaN, or no image with a true label.

    Source: Beyer et al., *Are We Done with ImageNet?*, 2020, section 4.
    """
    truth_NC, judged_N = _judged(scores, truth)
    scores_NC = np.asarray(scores, dtype=np.float64)
    _check_numbers(scores_NC)
    best_N = scores_NC.argmax(1)
    return float(truth_NC[np.arange(len(truth_NC)), best_N][judged_N].mean())


def real_f1(sets: ArrayLike, truth: ArrayLike) -> float:
    """ReaL F1: the mean over images of the F1 of predicted and true set, of the images that have any true label.

        ReaL-F1 = mean over {i : Y_i not empty} of  2 |P_i & Y_i| / (|P_i| + |Y_i|)

    Args:
        sets: bool (N, C), the sets P of `label_sets`.
        truth: bool (N, C), the sets Y.

    Raises:
        ValueError: shapes that differ, or no image with a true label.

    Source: Rajeswar et al., *Multi-label Iterated Learning*, CVPR 2022, section 4.1.
    """
    truth_NC, judged_N = _judged(sets, truth)
    sets_NC = np.asarray(sets, dtype=np.bool_)
    f1_N = 2 * (sets_NC & truth_NC).sum(1) / np.maximum(sets_NC.sum(1) + truth_NC.sum(1), 1)
    return float(f1_N[judged_N].mean())


def pw_jaccard(sets: ArrayLike, truth: ArrayLike) -> float:
    """Precision-weighted Jaccard similarity, the mean over images: for models that learn their classes task by task.

        pw-JS = mean over i of  |P_i & Y_i| / |P_i or Y_i|  *  |P_i & Y_i| / |P_i|

    An empty prediction counts 0. Without the second factor, naming everything would pay.

    Args:
        sets: bool (N, C), the predicted sets P.
        truth: bool (N, C), the true sets Y, none of them empty.

    Raises:
        ValueError: shapes that differ, no image, or one without a true label.

    Source: Abdelsalam et al., *IIRC: Incremental Implicitly-Refined Classification*, CVPR 2021, equation 4.
    """
    sets_NC, truth_NC = np.asarray(sets, dtype=np.bool_), np.asarray(truth, dtype=np.bool_)
    if sets_NC.shape != truth_NC.shape or truth_NC.ndim != 2 or len(truth_NC) == 0:
        raise ValueError(f"sets and truth must both be (N, C), N > 0; they are {sets_NC.shape} and {truth_NC.shape}")
    if bare := int((~truth_NC.any(1)).sum()):
        raise ValueError(f"truth: {bare} of {len(truth_NC)} images have no label")
    common_N = (sets_NC & truth_NC).sum(1)
    jaccard_N = common_N / (sets_NC | truth_NC).sum(1)
    return float((jaccard_N * common_N / np.maximum(sets_NC.sum(1), 1)).mean())


def mean_average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """Mean over the classes of the average precision of ranking all images by the class's score.

    Classes that no image has are left out; one that all images have counts 1.

    Raises:
        ValueError: shapes that differ, or no true label at all.
    """
    truth_NC, _ = _judged(scores, truth)
    scores_NC = np.asarray(scores, dtype=np.float64)
    found = [
        1.0 if truth_N.all() else average_precision(scores_N, truth_N.astype(np.int64))
        for scores_N, truth_N in zip(scores_NC.T, truth_NC.T, strict=True)
        if truth_N.any()
    ]
    return float(np.mean(found))


def given_label_recall(sets: ArrayLike, labels: ArrayLike) -> float:
    """Share of the images whose one given label is in their set, of the images that were given one (a label >= 0)."""
    sets_NC, labels_N = np.asarray(sets, dtype=np.bool_), np.asarray(labels)
    labelled_N = labels_N >= 0
    return float(sets_NC[labelled_N, labels_N[labelled_N]].mean())


def added_label_score(scores: ArrayLike, sets: ArrayLike, labels: ArrayLike) -> float:
    """How much better than chance a model names the labels beside its best one, judged by images with one given label.

    Of the images whose given label y is not the model's best class, let r be the share whose set holds y, and q the share of
    the other C - 1 classes that their sets hold on the average. Then

        score = r^2 / q

    If such a y is a random draw from the image's further labels, r is the recall of the added labels and r / q proportional
    to their precision, so that the score ranks models as precision times recall does (Lee and Liu's criterion for
    learning from positive and unlabelled examples), without any image of which all labels are known. Whoever names every
    class scores exactly 1, whoever names classes by chance less, whoever adds none 0.

    Args:
        scores: (N, C); the best class is their argmax.
        sets: bool (N, C), from the same scores by `label_sets`.
        labels: int (N,), the one given label; -1 where there is none.

    Raises:
        ValueError: shapes that differ.

    Source: Lee and Liu, *Learning with Positive and Unlabeled Examples Using Weighted Logistic Regression*, ICML 2003,
    section 4, here applied to the labels that the best guess misses.
    """
    scores_NC, sets_NC, labels_N = (
        np.asarray(scores, dtype=np.float64),
        np.asarray(sets, dtype=np.bool_),
        np.asarray(labels),
    )
    if scores_NC.shape != sets_NC.shape or labels_N.shape != scores_NC.shape[:1]:
        raise ValueError(
            f"scores {scores_NC.shape}, sets {sets_NC.shape} and labels {labels_N.shape} do not fit together"
        )
    missed_N = (labels_N >= 0) & (labels_N != scores_NC.argmax(1))
    if not missed_N.any() or scores_NC.shape[1] < 2:
        return 0.0
    recall = given_label_recall(sets_NC[missed_N], labels_N[missed_N])
    share = (sets_NC[missed_N].sum(1) - 1).mean() / (scores_NC.shape[1] - 1)
    return float(recall**2 / share) if share > 0 else 0.0


def _check_numbers(scores_NC: NDArray[np.float64]) -> None:
    if missing := int(np.isnan(scores_NC).any(1).sum()):
        raise ValueError(f"scores: {missing} of {len(scores_NC)} rows hold NaN; leave these images out, and count them")


def _judged(found: ArrayLike, truth: ArrayLike) -> tuple[Sets, Sets]:
    truth_NC = np.asarray(truth, dtype=np.bool_)
    if truth_NC.ndim != 2 or np.shape(found) != truth_NC.shape:
        raise ValueError(
            f"found {np.shape(found)} and truth {truth_NC.shape} must both be (N, C); give a row for each image and a column "
            "for each class"
        )
    judged_N = np.asarray(truth_NC.any(1))
    if not judged_N.any():
        raise ValueError(
            f"truth: none of the {len(truth_NC)} images has a true label, so that there is nothing to judge by; give images of "
            "which at least one is labelled"
        )
    return truth_NC, judged_N
