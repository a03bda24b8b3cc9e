"""AutoInt: fields of names and of numbers, embedded, attend to one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ABSENT = 1000.0
"""From here on a standardised number stands for one that is not known."""


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
    r"""From fields, (B, F), to features, (B, F * width): embeddings and interacting layers.

    A field of names is int64 and has an embedding for each name. A number x, standardised, is embedded as a line (the paper's
    eq. 4 with an origin), and has an embedding of its own where there is none, which is `ABSENT`:

    .. math:: e_m = a_m + x\, v_m, \qquad e_m = u_m \text{ where } x \text{ is absent}

    Args:
        sizes: number of values of each field; 3 of a number: its origin, its slope, and that of none.
        width: d, numbers in an embedding.
        attention_heads: of each layer; they divide the width.
        layers: how many layers.
        numbers: how many fields, the last ones, are numbers; the input is then floating-point.

    Raises:
        ValueError: no field, an empty one, a number of another size than 3, or heads that do not divide the width.

    Source: Song et al., *AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks*, CIKM 2019.
    The sizes are those that MAOAL's authors run; like them, and unlike the first release, without normalisation.
    """

    offsets: Tensor

    def __init__(
        self, sizes: Sequence[int], width: int = 16, attention_heads: int = 4, layers: int = 4, numbers: int = 0
    ) -> None:
        super().__init__()
        if not 0 <= numbers <= len(sizes) or any(size != 3 for size in sizes[len(sizes) - numbers :]):
            raise ValueError(f"numbers={numbers}: the last fields of sizes={tuple(sizes)} must be as many, of size 3")
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes={tuple(sizes)} must be the positive number of values of each field")
        if attention_heads < 1 or width % attention_heads:
            raise ValueError(f"attention_heads={attention_heads} must divide width={width}")
        self.num_features = len(sizes) * width
        self.names = len(sizes) - numbers
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        self.embedding = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.layers = nn.ModuleList(Interaction(width, attention_heads) for _ in range(layers))

    def forward(self, input: Tensor) -> Tensor:
        """Return the features (B, F * width)."""
        fields_BFd = self._embedded(input) if input.is_floating_point() else self.embedding(input + self.offsets)
        for layer in self.layers:
            fields_BFd = layer(fields_BFd)
        return fields_BFd.flatten(1)

    def _embedded(self, input: Tensor) -> Tensor:
        """Return the embeddings of names, by their codes, and of numbers."""
        names, numbers = input[:, : self.names], input[:, self.names :]
        absent = numbers >= ABSENT
        codes = torch.cat([names.long(), 2 * absent.long()], 1)
        slopes = self.embedding(self.offsets[self.names :] + 1)
        lines = numbers.masked_fill(absent, 0.0)[:, :, None] * slopes
        return self.embedding(codes + self.offsets) + F.pad(lines, (0, 0, self.names, 0))
