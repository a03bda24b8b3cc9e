"""Which variant of an A/B test decides about an advertisement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b

INCUMBENT = "incumbent"
"""What `tutelage serve` calls the variant that others challenge, and what an audit compares them with."""


def assign(ad_id: str, variants: Mapping[str, float]) -> str:
    """Return the variant that decides about an advertisement: always the same, wherever and whenever it is asked.

        argmin_v -log(U_v) / w_v,   U_v = hash(v, ad_id) uniform in (0, 1)

    The smallest of exponential times of rates w_v is that of v with probability w_v / sum w. Where one weight is raised,
    advertisements move to that variant only, and none moves between the others.

    Args:
        ad_id: the advertisement's name.
        variants: weight by name, in any unit. One of weight 0 is a shadow: it scores every advertisement and decides none.

    Raises:
        ValueError: a weight below 0 or not finite, or none above 0.

    Source: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates, 1998 (highest random weight); with weights:
    Schindelhauer and Schomaker, Weighted Distributed Hash Tables, 2005.
    """
    for name, weight in variants.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"variants: weight {weight} of {name!r} must be a number from 0")
    deciding = {name: weight for name, weight in variants.items() if weight > 0}
    if not deciding:
        raise ValueError(f"variants={dict(variants)} has no weight above 0: no variant would decide")
    return min(deciding, key=lambda name: (-math.log(_uniform(name, ad_id)) / deciding[name], name))


def shadows(variants: Mapping[str, float]) -> tuple[str, ...]:
    """Return the variants that score and do not decide: those of weight 0."""
    return tuple(name for name, weight in variants.items() if weight == 0)


def _uniform(name: str, ad_id: str) -> float:
    key = f"{len(name)}:{name}{ad_id}".encode(errors="surrogatepass")
    return (int.from_bytes(blake2b(key, digest_size=8).digest()) + 0.5) / 2**64
