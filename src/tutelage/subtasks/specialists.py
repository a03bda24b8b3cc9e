"""One specialist per sub-task: its defects against everything acceptable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.data import WithColumns
from tutelage.metrics import auroc, npv_at_fpr
from tutelage.signals import BinaryCrossEntropy
from tutelage.subtasks.example_weights import with_example_weights
from tutelage.training import Budget, Hardware, Interrupted, Plan, fit, predict
from tutelage.training.batches import Examples

FPR = 0.01


@dataclass(frozen=True)
class SpecialistSettings:
    """How the specialists are trained (sub-task imputation, 4.2 and 5.2).

    Args:
        sharing: Networks: separate trains one per sub-task, as in the paper; trunk trains one with an output per sub-task in
            a single pass, so that the acceptable examples, which are nearly all, are processed once instead of K times.
        epochs: Passes over the data, for each network.
        balance: Power of re-balancing: 0 keeps the imbalance, as in the paper; 1 gives a specialist's defects as much weight
            as all acceptable examples; values between use that ratio to this power.
        select: Whether teacher-val selects each network's checkpoint, by NPV on the whole task, as in the paper. On a shared
            trunk this favours early heads, which know a little about every defect, over those that have learned their own.
        smoothing: Label smoothing.
    """

    sharing: Literal["trunk", "separate"] = "separate"
    epochs: int = 20
    balance: float = 0.0
    select: bool = True
    smoothing: float = 0.05

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "specialists", epochs="[1, inf)", balance="[0, 1]", smoothing="[0, 1)")

    @property
    def budget(self) -> Budget:
        """How long each network learns."""
        return Budget(epochs=self.epochs)


@dataclass
class Specialists:
    """K judges of acceptability.

    Attributes:
        networks: the trained networks: K of one output, or one of K outputs; None where the training failed.
        failures: why the specialist of a sub-task could not be trained.
    """

    networks: list[nn.Module | None]
    failures: dict[int, str]

    def logits(self, examples: Examples, hardware: Hardware | None = None) -> Tensor:
        """Return each specialist's log-odds that an example is acceptable, (N, K); NaN for one that failed."""
        workers = (hardware or Hardware()).workers
        columns = []
        for network in self.networks:
            if network is None:
                columns.append(torch.full((len(examples), 1), torch.nan))
                continue
            outputs, _ = predict(network, examples, workers=workers, shared=True)
            assert isinstance(outputs, Tensor)
            columns.append(outputs)
        return torch.cat(columns, dim=1)


class Membership(BinaryCrossEntropy):
    r"""Every specialist's binary cross-entropy on one shared trunk.

    .. math:: \ell_i = \sum_j m_{ij}\,w_{y_i}\,\mathrm{BCE}(\sigma(z_{ij}), (1 - s)\,y_i + s / 2)

    with w_1 = 1, w_0 the balance, s the smoothing, and m_ij = 1 for every specialist j of an acceptable example (y = 1) and for
    the one whose sub-task a defect (y = 0) belongs to. Its gradient for output j is that of the specialist j of its own.
    """

    def __init__(self, weight: float, smoothing: float = 0.0) -> None:
        super().__init__("membership", name="membership")
        self.weight = weight
        self.smoothing = smoothing

    def forward(self, outputs: Any, batch: Any) -> Tensor:
        """Return the losses (B,)."""
        told = batch["membership"]
        smoothed = torch.where(told < 0, told, (1 - self.smoothing) * told + self.smoothing / 2)
        losses_B = super().forward(outputs, {**batch, "membership": smoothed})
        return torch.where(batch["label"] == 0, self.weight * losses_B, losses_B)


def _weight(told_NK: Tensor, balance: float) -> float:
    """Return w_0: the ratio of a specialist's acceptable examples to its defects (their mean), to the power of balance."""
    defects, acceptable = float((told_NK == 0).sum()), float((told_NK == 1).sum())
    return (acceptable / max(defects, 1.0)) ** balance


def memberships(subtask: Tensor, label: Tensor, count: int) -> Tensor:
    """Return the target of each specialist for each example, (N, K): 1 acceptable, 0 its own defect, -1 nothing."""
    told = torch.full((len(label), count), -1.0)
    told[label == 1] = 1.0
    own = ((label == 0) & (subtask >= 0)).nonzero().squeeze(1)
    told[own, subtask[own]] = 0.0
    return told


def train_specialists(
    make: Callable[[int], nn.Module],
    examples: Callable[[Tensor], Any],
    subtask: Tensor,
    label: Tensor,
    rows: Tensor,
    val: Any,
    settings: SpecialistSettings,
    plan: Plan,
    *,
    count: int,
    heads: Callable[[nn.Module], tuple[str, ...]] = lambda network: (),
    weight: Tensor | None = None,
) -> Specialists:
    """Train the specialists; the failure of one does not lose the rest.

    Args:
        make: ``make(outputs)`` builds a network of so many outputs.
        examples: ``examples(rows)`` is the data set of these rows, with ``index`` and ``label``.
        subtask: the sub-task of every row of the table, -1 for none, (N,).
        label: 0 defective, 1 acceptable, -1 not labelled, (N,).
        rows: the training rows.
        val: teacher-val, which selects each network's checkpoint: by NPV at 1 % FPR, then by AUROC; the mean over the outputs
            of a trunk.
        settings: how many epochs, and whether they share a trunk.
        plan: as in `fit`, but for budget, heads and selection, which follow from the other arguments.
        count: K.
        heads: the names of a network's heads.
        weight: how often each row of the table counts, (N,); see `with_example_weights`.

    Raises:
        Interrupted: training was asked to stop.
    """
    told = memberships(subtask, label, count)
    groups = [list(range(count))] if settings.sharing == "trunk" else [[j] for j in range(count)]
    networks: list[nn.Module | None] = []
    failures: dict[int, str] = {}
    for group in groups:
        name = "specialists" if settings.sharing == "trunk" else f"specialist-{group[0]}"
        own = told[:, group]
        taking_part = rows[(own[rows] >= 0).any(1)]
        try:
            network = make(len(group))
            told_apart = WithColumns(examples(taking_part), membership=own)
            membership = Membership(_weight(own[rows], settings.balance), settings.smoothing)
            data, signals = with_example_weights(told_apart, [membership], weight, taking_part)
            fit(
                network,
                data,
                signals=signals,
                plan=replace(
                    plan,
                    budget=settings.budget,
                    heads=heads(network),
                    val=val if settings.select else None,
                    select_by=_mean_performance if settings.select else None,
                    out=None if plan.out is None else plan.out / name,
                    name=name,
                ),
            )
        except Interrupted:
            raise
        except (RuntimeError, ValueError, FloatingPointError) as error:
            failures |= dict.fromkeys(group, f"{type(error).__name__}: {error}")
            networks += [None] * len(group)
        else:
            networks.append(network)
    return Specialists(networks, failures)


def _mean_performance(outputs: Any, batch: Any) -> float:
    """`npv_then_auroc` at 1 % FPR, averaged over the specialists."""
    labels = batch["label"].numpy()
    values = [npv_then_auroc(scores, labels, FPR) for scores in outputs.T.double().numpy()]
    return sum(values) / len(values)


def npv_then_auroc(scores: Any, labels: Any, fpr: float) -> float:
    """Return NPV at a false-positive rate, and a thousandth of AUROC to break its many ties."""
    return npv_at_fpr(scores, labels, fpr) + 1e-3 * auroc(scores, labels)
