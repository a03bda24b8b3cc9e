"""AutoInt: categorical fields, embedded, attend to one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Interaction(nn.Module):
    r"""One interacting layer: each field is a sum of all fields' values, weighed by how they match it.

    .. math:: \alpha^h_{mk} = \mathrm{softmax}_k \langle Q^h e_m, K^h e_k \rangle, \qquad
        e'_m = \mathrm{ReLU}\Big(\big\Vert_h \sum_k \alpha^h_{mk} V^h e_k + R\, e_m\Big)

    (eq. 5 to 8), written with matrix products, so that every derivative of it exists.
    """

    def __init__(self, width: int, attention_heads: int) -> None:
        super().__init__()
        self.attention_heads = attention_heads
        self.query, self.key, self.value, self.residual = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, fields_BFd: Tensor) -> Tensor:
        """Return the fields anew, (B, F, d)."""
        size, fields, width = fields_BFd.shape

        def split(layer: nn.Linear) -> Tensor:  # (B, heads, F, d / heads)
            return layer(fields_BFd).view(size, fields, self.attention_heads, -1).transpose(1, 2)

        match_BhFF = split(self.query) @ split(self.key).transpose(2, 3)
        mixed_BFd = (match_BhFF.softmax(3) @ split(self.value)).transpose(1, 2).reshape(size, fields, width)
        return F.relu(mixed_BFd + self.residual(fields_BFd))


class AutoInt(nn.Module):
    """From categorical fields, (B, F) int64, to features, (B, F * width): embeddings and interacting layers.

    Args:
        sizes: number of values of each field.
        width: d, numbers in an embedding.
        attention_heads: of each layer; they divide the width.
        layers: how many layers.

    Raises:
        ValueError: no field, an empty one, or heads that do not divide the width.

    Source: Song et al., *AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks*, CIKM 2019.
    The sizes are those that MAOAL's authors run; like them, and unlike the first release, without normalisation.
    """

    offsets: Tensor

    def __init__(self, sizes: Sequence[int], width: int = 16, attention_heads: int = 4, layers: int = 4) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes={tuple(sizes)} must be the positive number of values of each field")
        if attention_heads < 1 or width % attention_heads:
            raise ValueError(f"attention_heads={attention_heads} must divide width={width}")
        self.num_features = len(sizes) * width
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        self.embedding = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.layers = nn.ModuleList(Interaction(width, attention_heads) for _ in range(layers))

    def forward(self, input: Tensor) -> Tensor:
        """Return the features (B, F * width)."""
        fields_BFd = self.embedding(input + self.offsets)
        for layer in self.layers:
            fields_BFd = layer(fields_BFd)
        return fields_BFd.flatten(1)
