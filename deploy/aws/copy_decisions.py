"""Copies the decisions of the table into a decision log, for audits: ``python copy_decisions.py TABLE decisions.sqlite``.

What is there already stays as it is, so that it may be run every week.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from tutelage.production.decisions import Decision, DecisionLog


def decisions(items: Iterable[dict[str, Any]], left_out: list[str]) -> Iterator[Decision]:
    """Return the decisions that a model made; ads without a score, or with a name that is too long, are listed."""
    for item in items:
        told = {name: next(iter(value.values())) for name, value in item.items()}
        try:
            yield Decision(
                told["ad_id"],
                told["model_version"],
                float(told["score"]),
                told["decision"],
                told["variant"],
                image=told["image"],
                subtask=told.get("subtask"),
                decided_at=datetime.fromisoformat(told["decided_at"]),
            )
        except (KeyError, ValueError) as error:
            left_out.append(f"{told['ad_id']}: {told.get('reason', error)}")


def main(table: str, log: str) -> None:
    """Copy all decisions, and say what was left out."""
    import boto3

    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=table)
    left_out: list[str] = []
    copied = 0
    with DecisionLog(log) as to:
        found = decisions((item for page in pages for item in page["Items"]), left_out)
        while part := list(islice(found, 500)):
            copied += len(to.record_all(part))
    print("\n".join([*left_out, f"{copied} decisions copied; {len(left_out)} ads without one left out"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
