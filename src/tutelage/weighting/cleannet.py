"""CleanNet: an example counts as far as it looks like its class, by an embedding learned from right and wrong labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.distributed import all_gather_rows, all_reduce_sum
from tutelage.hypergradient import Optimizers
from tutelage.hypergradient.last_layer import LastLayer
from tutelage.hypergradient.probe import Probe, full_types, primary_only
from tutelage.modes import in_eval_mode
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Makers, Weighting
from tutelage.weighting.meta_optimizer import MetaOptimizer, MetaOptimizerState
from tutelage.weighting.table import ExampleTable, classes_of, index_of
from tutelage.weighting.verified import WrongLabels, finite_anywhere


class CleanNet(Weighting):
    r"""The weight of an example is the cosine of its embedding with that of its class, and the embedding is learned.

    .. math:: w_i = \max\big(0, \cos(A h_i, A p_{y_i})\big)

    with h the inputs of the model's last layer and :math:`p_c` the mean direction of the training examples that were given
    class c. On held-out examples, with their right labels (:math:`l = 1`) and with wrong ones (:math:`l = 0`), A minimises

    .. math:: [l = 1]\,(1 - \cos) + [l = 0]\;\omega \max(0, \cos - \rho)

    Embedding and classifier learn in turns: `begin_epoch` weighs all examples anew, ``adapt`` moves A. At first all
    weights are 1.

    Args:
        num_examples: N, the size of the data set that ``batch["index"]`` counts in.
        width: rows of A; as many as there are features where these are fewer.
        margin: :math:`\rho`.
        wrong_weight: :math:`\omega`.
        start: the first epoch, counted from 0, that is weighed.
        meta_optimizer: how A is moved.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Lee et al., *CleanNet: Transfer Learning for Scalable Image Classifier Training with Label Noise*, CVPR 2018,
    sections 3.2 and 4. The card says what is left out.
    """

    name: ClassVar[str] = "cleannet"
    made_of: ClassVar[Makers] = {"meta_optimizer": MetaOptimizer.of_plain}
    title: ClassVar[str] = "CleanNet-like"
    shows_wrong_labels: ClassVar[bool] = True
    weighs_signals: ClassVar[bool] = False
    embedding: Tensor
    prototypes: Tensor

    def __init__(
        self,
        num_examples: int,
        *,
        width: int = 128,
        margin: float = 0.1,
        wrong_weight: float = 5.0,
        start: int = 1,
        meta_optimizer: MetaOptimizer | None = None,
    ) -> None:
        super().__init__()
        if width < 1 or not -1 <= margin < 1 or wrong_weight < 0 or start < 0:
            raise ValueError(
                f"width={width} must be positive, margin={margin} in [-1, 1), wrong_weight={wrong_weight} and start={start} at "
                "least 0"
            )
        self.width = width
        self.margin = margin
        self.wrong_weight = wrong_weight
        self.start = start
        self.meta_optimizer = meta_optimizer or MetaOptimizer(lr=1e-3)
        self.table = ExampleTable(num_examples, torch.ones(1))
        self.wrong = WrongLabels()
        self.register_buffer("embedding", torch.zeros(0, 0))
        self.register_buffer("prototypes", torch.zeros(0, 0))
        self._begin(0, 0)

    def _begin(self, classes: int, features: int) -> None:
        """Make what is learned, once the numbers of classes and of features are known."""
        like = self.table.rows
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            orthogonal = torch.zeros(min(self.width, features), features)
            self.embedding = (nn.init.orthogonal_(orthogonal) if features else orthogonal).to(like)
        self.prototypes = like.new_zeros(classes, features)
        self.optimizer = MetaOptimizerState(self.meta_optimizer, {"embedding": self.embedding})

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        if (saved := state_dict.get(prefix + "prototypes")) is not None and saved.shape != self.prototypes.shape:
            self._begin(*saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def weights(self) -> Tensor:
        """The weights, (N,); with several processes all of them ask."""
        return self.table.whole()[:, 0]

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights of the batch's examples, the same for each signal."""
        return self.table.lookup(index_of(batch, "CleanNet")).to(losses_BK.dtype).expand_as(losses_BK)

    def begin_epoch(self, epoch: int, objective: Objective, batches: Iterable[Batch]) -> None:
        """Weight all examples anew, from the epoch ``start`` on."""
        if epoch >= self.start:
            self.weigh(objective, batches)

    def weigh(self, objective: Objective, batches: Iterable[Batch]) -> None:
        """Compute the classes' prototypes from all examples, and weight the examples by them.

        Args:
            objective: its model ends in one linear layer.
            batches: every example once, with ``label``; with several processes each brings its share. An example that is not
                finite, or has no label, has weight 0.

        Raises:
            ValueError: the model does not end in one linear layer, ``label`` is no class of each example that the model has, or
                there is no batch.
        """
        kept = [(index_of(batch, "CleanNet"), *self._seen(objective, batch)) for batch in batches]
        if not kept:
            raise ValueError("batches is empty: every process brings its share of the examples")
        index, features, label = all_gather_rows(*(torch.cat(parts) for parts in zip(*kept, strict=True)))
        order = index.argsort(stable=True)  # the same in any number of processes
        index, features, label = index[order], features[order].to(self.embedding), label[order]
        known = label >= 0
        sums = torch.zeros_like(self.prototypes).index_add_(0, label[known], F.normalize(features[known], dim=1))
        self.prototypes.copy_(F.normalize(sums, dim=1))
        weights = self.cosines(features, label, self.embedding).clamp(min=0)
        self.table.put(index, torch.where(known, weights, 0)[:, None])

    def cosines(self, features_Bd: Tensor, label_B: Tensor, embedding: Tensor) -> Tensor:
        """Return the cosines (B) of examples with their classes."""
        prototypes_Bd = self.prototypes.to(features_Bd)[label_B.clamp_min(0)]
        return F.cosine_similarity(features_Bd @ embedding.T, prototypes_Bd @ embedding.T, dim=1)

    def _seen(self, objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the features (B, d) of a batch in eval mode, and its labels, -1 where an example is not finite."""
        label_B = classes_of(batch, "CleanNet")
        with in_eval_mode(objective.model):
            seen = LastLayer.of(Probe(primary_only(objective), batch), pulled=False)
        if len(self.prototypes) == 0:
            self._begin(*seen.parameters[seen.weight].shape)
        label_B, classes = torch.where(seen.finite_B, label_B, -1), len(self.prototypes)
        if len(label_B) and (highest := int(label_B.max())) >= classes:
            raise ValueError(
                f"CleanNet: batch['label'] holds class {highest}, and the model has {classes}; count classes from 0"
            )
        return seen.features_Bd, label_B

    @full_types()
    def hypergradient(
        self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers
    ) -> dict[str, Tensor]:
        """Return the derivative of the verification loss by A."""
        wrong_B = self.wrong(held_out)["label"]
        features_Bd, right_B = self._seen(objective, held_out)
        known_B = right_B >= 0
        with torch.enable_grad():
            A = self.embedding.to(features_Bd).clone().requires_grad_()
            right = (1 - self.cosines(features_Bd, right_B, A)) * known_B
            excess = (self.cosines(features_Bd, wrong_B, A) - self.margin).clamp(min=0)
            loss = (right + self.wrong_weight * excess * (known_B & (wrong_B >= 0))).sum()
            (found,) = torch.autograd.grad(loss / all_reduce_sum(known_B.sum()).clamp(min=1), [A])
        return {"embedding": all_reduce_sum(found)}

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Take one step on A, once there are prototypes."""
        if not finite_anywhere(batch):
            return
        gradients = self.hypergradient(objective, batch, held_out, optimizer)
        self.optimizer.step({"embedding": self.embedding}, gradients)
        self.wrong.turn()

    def columns(self, names: object) -> dict[str, Tensor]:
        """Return the weights."""
        return {"weight": self.weights}
