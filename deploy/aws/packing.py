"""An exported model as SageMaker takes it."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from tutelage.production.card import NAME, read_card


def packed(model: Path, out: Path) -> str:
    """Write an exported model as a gzipped tar, the same bytes for the same model, and return its version.

    Raises:
        FileNotFoundError, ValueError: see `read_card`.
    """
    card = read_card(model)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in sorted([NAME, *card["files"]]):
            content = (model / name).read_bytes()
            facts = tarfile.TarInfo(name)
            facts.size, facts.mode = len(content), 0o644
            archive.addfile(facts, io.BytesIO(content))
    out.write_bytes(gzip.compress(file.getvalue(), mtime=0))
    return card["version"]
