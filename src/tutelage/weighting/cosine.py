"""Gradient cosine similarity: an auxiliary loss counts while its gradient agrees with the primary one's."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from tutelage.hypergradient.passes import Pass, add_scaled, module_products
from tutelage.weighting.base import Makers, Weighting, add_gradients, mean_of_trained, other_leaves
from tutelage.weighting.partition import Level, Partition


class GradientCosine(Weighting):
    r"""An auxiliary loss's gradient is let through where its cosine with the primary loss's gradient is positive.

    .. math:: a_{km} = \mathbb 1[\cos(\nabla_m L_0, \nabla_m L_k) > 0] \quad\text{or}\quad a_{km} = \max(0, \cos)

    Judged anew for every batch; nothing is learned and no held-out data is needed. One backward pass for each signal.

    Args:
        model: the model whose modules are told apart.
        mode: "gate" lets all of the gradient through, as MAOAL's authors compare with; "weighted" its cosine's share.
        partition: a `Partition`, or a level; "model" judges all parameters outside of the heads at once, as published.

    Raises:
        ValueError: an unknown mode or level.

    Source: Du et al., *Adapting Auxiliary Losses Using Gradient Similarity*, 2018, section 3.
    """

    name: ClassVar[str] = "gradient_cosine"
    made_of: ClassVar[Makers] = {"partition": Partition.of_plain}
    title: ClassVar[str] = "gradient cosine"
    several_passes: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        *,
        mode: Literal["gate", "weighted"] = "gate",
        partition: Level | Partition = "model",
    ) -> None:
        super().__init__()
        self.mode = mode
        self.partition = partition if isinstance(partition, Partition) else Partition.of(model, partition)

    def weights_of(self, cosines_KM: Tensor) -> Tensor:
        """Return how far each signal counts in each module, by its cosine with the primary one, (K, M)."""
        a_KM = cosines_KM.clamp(min=0) if self.mode == "weighted" else (cosines_KM > 0).to(cosines_KM)
        return torch.cat([torch.ones_like(a_KM[:1]), a_KM[1:]])

    def descend(self, totals_K: Tensor, model: nn.Module, scale: float | Tensor) -> None:
        """Add the gradient of each signal's total to ``.grad``, as far as it agrees with the first one's."""
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        reached = {**trained, **other_leaves(totals_K, trained)}
        module_of = self.partition.within(model)
        by_signal = []
        for k in range(len(totals_K)):
            alone = Pass.of_one(k, len(totals_K), reached)
            own = alone.gradients(scale * totals_K, reached, retain_graph=k + 1 < len(totals_K))
            by_signal.append(mean_of_trained(own, trained))
        a_KM = self.weights_of(cosines(by_signal, module_of, len(self.partition))).tolist()
        summed: dict[str, Tensor] = {}
        for k, gradients in enumerate(by_signal):
            add_scaled(summed, gradients, {n: a_KM[k][module_of[n]] if n in module_of else 1.0 for n in gradients})
        add_gradients(summed, reached)


def cosines(by_signal: list[dict[str, Tensor]], module_of: dict[str, int], modules: int) -> Tensor:
    """Return the cosine of each signal's gradient with the first one's, in each module, (K, M); 0 where one of them is 0."""
    primary = by_signal[0]
    one = next(iter(primary.values()), torch.zeros(()))
    products_KM = torch.stack([module_products(own, primary, module_of, modules, one) for own in by_signal])
    squares_KM = torch.stack([module_products(own, own, module_of, modules, one) for own in by_signal])
    lengths_KM = squares_KM.sqrt() * squares_KM[0].sqrt()
    return torch.where(lengths_KM > 0, products_KM / lengths_KM, 0)
