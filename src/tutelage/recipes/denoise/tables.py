"""The tables of a run: each text, each vote, each rule, and what to label next."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.data.selection import facility_location
from tutelage.data.votes import ABSTAIN, analyse_rules, disagreement
from tutelage.metrics import doubts
from tutelage.recipes.denoise.candidates import ALONE, Models
from tutelage.recipes.denoise.task import RuleTask

PSEUDO = 2
"""As how many labelled texts the served model's opinion counts in the trust in a rule."""


def examples_table(task: RuleTask, models: Models) -> pd.DataFrame:
    """Return one row per text: the served model's answer, how far rules contradict each other, and how doubtful its label is.

    Labels are doubted by the trainings that have not seen those of the validation part.
    """
    probabilities, first = models.probabilities(), models.probabilities(first=True)
    labels = task.table["label"].to_numpy()
    names = np.array(task.classes, dtype=object)
    frame = task.table[[name for name in ("id", "text", "split") if name in task.table]].copy()
    frame["label"] = np.where(labels >= 0, names[labels.clip(0)], "")
    frame["predicted"] = names[probabilities.argmax(1)]
    frame["probability"] = probabilities.max(1)
    alone = models.candidates.get(ALONE)
    frame["labels_alone"] = "" if alone is None else names[alone.first.probabilities.argmax(1)]
    frame["majority"] = names[task.majority()]
    frame["votes"] = (task.votes.values != ABSTAIN).sum(1)
    frame["disagreement"] = disagreement(task.votes, len(task.classes))
    found = doubts(labels, first)
    found["suspected"] = np.where(labels >= 0, names[found["suspected"]], "")
    return frame.assign(**found)


def trust_table(task: RuleTask, models: Models) -> pd.DataFrame:
    """Return one row for every vote: who, on what, for which class, and how far it is trusted there.

    ``trust`` is the probability that the vote is right: by the network of reliability where a method that has one is served
    alone, otherwise the served model's probability of the class. ``label_model`` is the label model's probability of it.
    """
    asked = models.asked.refit
    columns = asked.columns
    row, column = np.nonzero(columns.fired)
    label = columns.rule_class[column]
    if models.served == [models.asked] and "reliability" in asked.outputs:
        trust = asked.outputs["reliability"].double().sigmoid().numpy()[row, column]
    else:
        trust = models.probabilities()[row, label]
    labels = task.table["label"].to_numpy()[row]
    frame = pd.DataFrame(
        {
            "id": task.table["id"].to_numpy()[row],
            "split": task.table["split"].to_numpy()[row],
            "rule": np.array(task.votes.names, dtype=object)[columns.rule[column]],
            "vote": np.array(task.classes, dtype=object)[label],
            "trust": trust,
        }
    )
    if "label_model" in asked.outputs:
        frame["label_model"] = asked.outputs["label_model"].double().softmax(1).numpy()[row, label]
    frame["right"] = pd.Series(labels == label, dtype="boolean").mask(labels < 0)
    return frame


def rules_table(task: RuleTask, trust: pd.DataFrame) -> pd.DataFrame:
    r"""Return one row a rule: what it votes for, how often, how well where labels tell, and how far it is trusted.

    .. math:: \mathrm{trust} = \frac{\mathrm{correct} + k\,m}{\mathrm{correct} + \mathrm{incorrect} + k}

    with k = 2 and m the mean trust in its votes on texts that have no label, or on all where each has one: labels tell, and
    where there are few the model does.
    """
    table = analyse_rules(task.votes, task.table["label"].to_numpy())
    table["classes"] = [", ".join(task.classes[label] for label in labels) for labels in table["classes"]]
    believed = trust[trust["right"].isna()].groupby("rule")["trust"].mean()
    model = table["rule"].map(believed).fillna(table["rule"].map(trust.groupby("rule")["trust"].mean()))
    correct, judged = table["correct"], table["correct"] + table["incorrect"]
    table["trust"] = (correct + PSEUDO * model) / (judged + PSEUDO)
    table["failures"] = table["rule"].map(task.failures).fillna(0).astype(int)
    return table


def label_next(task: RuleTask, count: int) -> pd.DataFrame:
    """Return the unlabelled training texts that stand for the most others, the first to be labelled first."""
    train = task.rows("train").numpy()
    labels: NDArray[np.int64] = task.table["label"].to_numpy()[train]
    count = min(count, int((labels < 0).sum()))
    chosen, gains = facility_location(task.features[train], count, known=np.flatnonzero(labels >= 0))
    frame = task.table.iloc[train[chosen]]
    return frame[[name for name in ("id", "text") if name in frame]].assign(gain=gains).reset_index(drop=True)
