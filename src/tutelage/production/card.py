"""model.json: what an exported model is, as the folder says it and the service checks it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.files import read_json, write_atomically

NAME = "model.json"
FORMAT = 2
KINDS = {"decision", "class", "labels", "answer", "text"}
_NEEDED: dict[str, type | tuple[type, ...]] = {
    "recipe": str,
    "input": dict,
    "answer": dict,
    "classes": (list, type(None)),
    "graph": str,
    "files": dict,
}


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version_of(card: Mapping[str, Any]) -> str:
    """Return the model's version: a hash of everything that its card says, the hashes of its files among it."""
    told = {name: value for name, value in card.items() if name != "version"}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_card(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.json, whole or not at all, and return it with its format and version."""
    told = json.loads(json.dumps({"format": FORMAT, **card}))
    told["version"] = version_of(told)
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / NAME, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return told


def read_card(folder: Path) -> dict[str, Any]:
    """Return what model.json says, after every file was compared with it.

    Raises:
        FileNotFoundError: the folder holds no exported model, or lacks a file of it.
        ValueError: a file is damaged or of another version, or the card is of another format.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {NAME}; write one with: tutelage export RUN --out {folder}")
    card = read_json(path)
    if card.get("format") != FORMAT:
        raise ValueError(f"{path} has format {card.get('format')!r}, this version reads {FORMAT}; export the run again")
    for name, kind in _NEEDED.items():
        if not isinstance(card.get(name), kind):
            raise ValueError(
                f"{path} says {name}={card.get(name)!r:.100}, which describes no model; export the run again"
            )
    if card["answer"].get("kind") not in KINDS or card["graph"] not in card["files"]:
        raise ValueError(f"{path} describes no model that can be served; export the run again")
    if card.get("version") != version_of(card):
        raise ValueError(
            f"{path} was changed after it was written: its version is {version_of(card)} now; export the run again"
        )
    for name, expected in card["files"].items():
        if Path(name).name != name or not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} lacks the file {name!r} that its {NAME} names; export the run again")
        if digest(folder / name) != expected:
            raise ValueError(f"{folder / name} is damaged, or belongs to another {NAME}; export the run again")
    return card
