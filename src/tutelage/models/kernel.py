"""Kernel ridge regression as a network of features: it keeps the examples from which it learned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SURE = 0.02  # a regression on 0 and 1 is surer of nothing than of this


class FeatureKernel(nn.Module):
    r"""A regression on 0 and 1, by a Gaussian kernel, as the logits of two classes.

    .. math:: f(x) = c + \sum_i \alpha_i\, e^{-s \| m(x) - m_i \|^2}, \qquad
        m(x) = a \odot x \ \text{ or }\ \frac{a \odot x}{\|a \odot x\|}, \qquad z = \log \frac{f}{1 - f}

    and beyond 0.02 and 0.98, of which a regression on 0 and 1 can be no surer, z goes on as a straight line: ranks stay.

    Its attributes are those of timm's networks.

    Args:
        num_features: numbers of a feature vector, D.
        examples: how many examples it keeps.
        num_classes: 2.
        drop_rate: not used: nothing is trained by gradients.
    """

    known: Tensor
    dual: Tensor
    stretch: Tensor
    direction: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(
        self, num_features: int = 384, examples: int = 1, num_classes: int = 2, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        if num_classes != 2:
            raise ValueError(f"num_classes={num_classes}: a regression on 0 and 1 has the logits of 2 classes")
        self.num_features = num_features
        self.register_buffer("known", torch.zeros(examples, num_features))
        self.register_buffer("dual", torch.zeros(examples))
        self.register_buffer("stretch", torch.ones(num_features))
        self.register_buffer("direction", torch.ones(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("offset", torch.full((), 0.5))
        self.head = nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer, which has no weights."""
        return self.head

    def forward_features(self, input: Tensor) -> Tensor:
        """Return the vectors whose distances count, m(x), of features (B, D)."""
        stretched = input * self.stretch
        return torch.where(self.direction > 0, F.normalize(stretched, dim=1), stretched)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (B, 2) of what `forward_features` returns, (B, D), or this."""
        if pre_logits:
            return features
        lengths_BN = features.square().sum(1, keepdim=True) + self.known.square().sum(1)
        kernel_BN = (-self.scale * (lengths_BN - 2 * features @ self.known.T).clamp_min(0)).exp()
        told_B = self.offset + kernel_BN @ self.dual
        within_B = told_B.clamp(SURE, 1 - SURE)
        beyond_B = (told_B - within_B) / (SURE * (1 - SURE))
        half_B = 0.5 * (within_B.log() - (1 - within_B).log() + beyond_B)
        return self.head(torch.stack([-half_B, half_B], dim=1))

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits (B, 2) of features (B, D)."""
        return self.forward_head(self.forward_features(input))
