"""Files from outside have limits, and files for others are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_JSON_BYTES = 256 << 20


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds by name.

    Raises:
        ValueError: it is too large, damaged, or holds something else.
    """
    if path.stat().st_size > _JSON_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size / 2**20:.0f} MiB; at most {_JSON_BYTES >> 20} are read")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, or no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {type(found).__name__}; expected values by name")
    return found
