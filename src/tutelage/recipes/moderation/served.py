"""Who speaks for the kept specialists, which models are candidates, and the network that is served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.metrics import Calibration, auroc, calibrate, label_errors
from tutelage.metrics.error_rates import plausible_errors, wrong_labels
from tutelage.models import NOT_HEARD, Committee, load_committee, load_model, save_committee
from tutelage.models.features import EncoderDoor
from tutelage.recipes.encoding import whole
from tutelage.recipes.moderation.belief import Belief, regression_of
from tutelage.recipes.moderation.choice import PLAIN, UNFROZEN, Candidate, Choice, bounded, choose, standard_error
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.regression import STAGE as REGRESSION
from tutelage.recipes.unfreezing import Unfrozen, half_label, mean_gain, unfrozen
from tutelage.signals import CrossEntropy
from tutelage.subtasks import Selection, joint_log_odds

Floats = NDArray[np.float64]


def held_out(pipeline: Pipeline, *splits: str, doubted: Tensor | None = None) -> Tensor:
    """Return the labelled rows that train no model: they select checkpoints and specialists, calibrate, and choose.

    Args:
        splits: all three parts of the validation by default.
        doubted: rows that have no say, (N,) bool, unless only one class would be left.
    """
    rows = pipeline.rows(*(splits or ("teacher_val", "teacher_test", "student_val")))
    labels = pipeline.task.labels
    rows = rows[labels[rows] >= 0]
    if doubted is None:
        return rows
    with_say = rows[~doubted[rows]]
    return with_say if len(labels[with_say].unique()) == 2 else rows


def joint_teacher(log_odds_NK: Tensor, selection: Selection) -> Tensor:
    """Return the kept specialists' joint log-odds of acceptable, (N,); NaN if none is kept."""
    kept_K = torch.from_numpy(selection.kept)
    return joint_log_odds(log_odds_NK, torch.from_numpy(selection.operating_point), kept_K)


def choose_members(
    pipeline: Pipeline,
    fine_tuned: ModelScores,
    student: ModelScores | None,
    teacher: Tensor,
    belief: Belief | None = None,
) -> Choice:
    """Choose the served model: one, or several whose log-odds are averaged.

    The specialists know the teachers' parts, so that all are judged on student-val. Where nobody teaches, the plain models are
    judged on the teachers' parts, since student-val has selected the checkpoint of one of them. Held-out labels that cannot
    judge a model (see `Belief.unjudged`) have no say in the choice. The level of the scores is by all labels: those that are
    right after all would be missing from it.

    Args:
        fine_tuned: the baseline.
        student: taught by the specialists, or None where none was kept.
        teacher: the specialists' own answer, which is a candidate where one network gives it.
        belief: in the labels; behind an encoder the regression on them, or on the labels as they are, is a candidate.
    """
    parts = {"fine_tuned": fine_tuned.log_odds}
    regression = regression_of(pipeline, belief)
    if regression is not None and regression.model is not None:
        parts["regression"] = regression.model.log_odds
    if student is not None:
        parts["student"] = student.log_odds
        if pipeline.settings.specialists.sharing == "trunk" and torch.isfinite(teacher).all():
            parts["specialists"] = teacher.double().numpy()
    doubted = belief.unjudged(pipeline.task.labels) if belief else None
    unseen = ("teacher_val", "teacher_test") if student is None else ("student_val",)
    judged = held_out(pipeline, *unseen, doubted=doubted)
    labels = pipeline.task.labels.numpy()
    calibrated_on = held_out(pipeline, doubted=doubted).numpy()
    return choose(parts, labels, calibrated_on, judged.numpy(), level=held_out(pipeline).numpy())


def told_by_others(pipeline: Pipeline, choice: Choice, belief: Belief | None) -> Floats | None:
    """Return calibrated log-odds by the labels of similar images, (N,), of a training image without its own.

    None where no regression tells them.
    """
    regression = regression_of(pipeline, belief)
    if regression is None:
        return None
    rows = held_out(pipeline).numpy()
    told, given = regression.log_odds.double().numpy(), pipeline.task.labels.numpy()[rows]
    return calibrate(told[rows], given, errors=choice.errors).log_odds(told)


def doubted_labels(pipeline: Pipeline, choice: Choice, others: Floats | None) -> Floats:
    """Return the probability that each label is wrong, (N,): by the served model and by the other images, weighed alike.

    The served model has learned a training image's label; the others' answer has not, and tells which class errs more.
    """
    rows, labels = held_out(pipeline).numpy(), pipeline.task.labels.numpy()
    if others is None:
        rates = plausible_errors(choice.served.log_odds[rows], labels[rows])
        return wrong_labels(choice.served.log_odds, labels, rows, rates)
    known = labels >= 0
    return wrong_labels(choice.served.log_odds + others, labels, rows, plausible_errors(others[known], labels[known]))


def committee(pipeline: Pipeline, choice: Choice, selection: Selection) -> Committee:
    """Return the chosen model, calibrated."""
    folders = {
        "fine_tuned": "fine-tuned",
        "student": "student",
        "regression": REGRESSION,
        "specialists": pipeline.specialists_stage,
    }
    chosen = choice.served.members
    stages = pipeline.stages.folder / "stages"
    networks = [load_model(stages / folders[name] / "model")[0].cpu() for name in chosen]
    behind = [whole(network, pipeline.task.images) for network in networks]
    door, judges = behind[0].pixels, [name == "specialists" for name in chosen]
    made = Committee(networks, judges, door) if isinstance(door, EncoderDoor) else Committee(behind, judges)
    weights, offset = choice.served.committee()
    made.weight.copy_(torch.tensor(weights))
    made.offset.fill_(offset)
    if "specialists" in chosen:
        heard = torch.from_numpy(selection.kept & np.isfinite(selection.operating_point))
        points = torch.from_numpy(selection.operating_point).float()
        made.points(chosen.index("specialists")).copy_(torch.where(heard, points, NOT_HEARD))
    return made.eval()


def unfreeze(
    pipeline: Pipeline, choice: Choice, served: Committee, doubted: Tensor | None = None
) -> tuple[Choice, Committee, Unfrozen]:
    """Train the last block of the served model's encoder, and serve the result if held-out labels are likelier by it.

    Args:
        choice: of ``served``, in which the new model becomes one more candidate.
        served: encoder and heads as one.
        doubted: held-out labels that have no say, see `choose_members`.

    Returns:
        The choice, what is served, and what has become of the block.
    """
    task, labels = pipeline.task, pipeline.task.labels.numpy()
    rows = pipeline.rows("train")
    acceptable = torch.from_numpy(choice.served.scores).float()
    made = unfrozen(
        served,
        "members",
        task.images,
        rows[task.labels[rows] >= 0],
        half_label(task.labels, torch.stack([1 - acceptable, acceptable], dim=1)),
        CrossEntropy("target", name="half label"),
        save_committee,
        settings=pipeline.settings,
        stages=pipeline.stages,
        log=pipeline.log,
        weight_N=task.weights,
    )
    raw = (made.logits[:, 1] - made.logits[:, 0]).double().numpy()
    level, judged = held_out(pipeline).numpy(), held_out(pipeline, "student_val", doubted=doubted).numpy()
    fitted = calibrate(raw[level], labels[level], errors=choice.errors)
    told = {
        name: _likelihood(each.log_odds[judged], labels[judged], choice) for name, each in choice.candidates.items()
    }
    own = fitted.log_likelihood(raw[judged], labels[judged])
    gain = mean_gain(own - told[choice.chosen])
    made = replace(made, gain=gain, judged_on=len(judged), criterion="the log-likelihood of a held-out label")
    fitted = bounded(fitted, raw)
    candidate = Candidate(
        (UNFROZEN,),
        (1.0,),
        fitted,
        fitted.log_odds(raw),
        auroc(raw[judged], labels[judged]),
        float((own - told[PLAIN]).mean()),
        standard_error(own - told[PLAIN]),
    )
    choice = replace(choice, candidates={**choice.candidates, UNFROZEN: candidate})
    if not made.kept:
        return choice, served, made
    network = load_committee(made.folder)[0].cpu()
    weights, offset = candidate.committee()
    network.offset.copy_(weights[0] * network.offset + offset)
    network.weight.mul_(weights[0])
    why = (
        f"it began as {choice.chosen} ({choice.why}), and with the block trained held-out labels are likelier by "
        f"{gain.value:+.4f} nats each"
    )
    return replace(choice, chosen=UNFROZEN, why=why), network.eval(), made


def _likelihood(log_odds: NDArray[np.float64], labels: NDArray[np.int64], choice: Choice) -> NDArray[np.float64]:
    """Return the log-likelihood of labels by calibrated log-odds and the choice's error rates."""
    return Calibration(1.0, 0.0, *choice.errors).log_likelihood(log_odds, labels)


def calibrated_teacher(
    pipeline: Pipeline, joint: Tensor, fine_tuned: ModelScores, doubted: Tensor | None = None
) -> tuple[Tensor, tuple[float, float]]:
    """Return the joint teacher's calibrated log-odds, and the labels' error rates, both by held-out labels."""
    rows = held_out(pipeline, doubted=doubted).numpy()
    labels, raw = pipeline.task.labels.numpy()[rows], joint.double().numpy()
    told = [calibrate(each[rows], labels, errors="none").log_odds(each[rows]) for each in (raw, fine_tuned.log_odds)]
    errors = label_errors([*told, sum(told)], labels)
    return torch.from_numpy(calibrate(raw[rows], labels, errors=errors).log_odds(raw)).to(joint), errors
