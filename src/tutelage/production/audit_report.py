"""What an audit leaves behind: a report to look at, tables for programs, and verdicts to train on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tutelage.files import write_atomically, write_table
from tutelage.production.audit_figures import BESIDE, Audited, figures, read_audits
from tutelage.production.database import Database
from tutelage.reports.page import rendered
from tutelage.reports.plots import Line, line_plot
from tutelage.reports.wording import fixed, percent

TABLES = ("weeks", "table3", "sequential", "drift")


def write_audit_report(database: Database, out: Path, incumbent: str | None = None) -> dict[str, Any]:
    """Write the report of all audits so far, and return its figures.

    The folder gets ``report.html``; ``report.json``, which has all figures; a CSV file of each table; ``verdicts.csv``, a
    manifest of what was audited, that `tutelage moderate` reads; and ``labels.csv``, one of the labels that were judged again.

    Args:
        database: with audits.
        out: folder to write, made where it does not exist.
        incumbent: the variant that others are compared with; by default ``incumbent``, as `tutelage serve` names it, or else
            the one that was there first.

    Raises:
        ValueError: see `figures`.
    """
    found = figures(database, incumbent)
    out.mkdir(parents=True, exist_ok=True)
    audited = read_audits(database)
    for name in TABLES:
        if found[name]:
            write_table(out / f"{name}.csv", pd.DataFrame(found[name]))
        else:
            (out / f"{name}.csv").unlink(missing_ok=True)
    write_manifests(audited, out)
    text = json.dumps(_finite(found), indent=1, ensure_ascii=False) + "\n"
    write_atomically(out / "report.json", lambda path: path.write_text(text, encoding="utf-8"))
    html = rendered("audit.html", {"found": found, "plot": _plot(found), "closing": closing(found), "change": _change})
    write_atomically(out / "report.html", lambda path: path.write_text(html, encoding="utf-8"))
    return found


def drawn_of_what_passed(database: Database) -> bool:
    """Return whether anything was drawn of what passed, so that there is something to report on."""
    return not read_audits(database).strata.empty


def write_judged_again(database: Database, out: Path) -> int:
    """Write ``labels.csv`` alone, the labels of a run that were judged again; return how many they are."""
    out.mkdir(parents=True, exist_ok=True)
    return write_manifests(read_audits(database), out)["labels.csv"]


def write_manifests(audited: Audited, out: Path) -> dict[str, int]:
    """Write the verdicts as manifests of labelled images, and return how many rows each has.

    An advertisement whose verdicts are evenly divided, or unsure, is left out; one that was drawn in several weeks has one row.
    ``weight`` is how many advertisements that passed it stands for, one over its inclusion probability, added up over weeks.

    Args:
        audited: what was said.
        out: folder of ``verdicts.csv`` and ``labels.csv``; one without rows is not written.
    """
    judged = audited.items[audited.items["defective"].notna()]
    sampled, again = _by_ad(judged[judged["week"].notna()]), _by_ad(judged[judged["week"].isna()])
    shared = ["id", "image", "label", "headline"]
    tables = {
        "verdicts.csv": sampled[[*shared, "impressions", "weight", "week", "variant", "verdicts"]],
        "labels.csv": again[[*shared, "given_label", "verdicts"]],
    }
    for name, table in tables.items():
        if len(table):
            write_table(out / name, table.fillna(""))
        else:
            (out / name).unlink(missing_ok=True)
    return {name: len(table) for name, table in tables.items()}


def _by_ad(items: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each advertisement whose verdicts say the one or the other; the rest is that of its last week."""
    items = items.assign(weight=1 / items["probability"].astype(float), given_label=items["label"]).sort_values("id")
    last = {name: (name, "last") for name in ("image", "headline", "given_label", "week", "variant")}
    sums = {name: (name, "sum") for name in ("impressions", "weight")}
    by_ad = items.groupby("ad_id", sort=False).agg(
        **last, **sums, verdicts=("given", "sum"), defective=("defective", "mean")
    )
    by_ad = by_ad[by_ad["defective"] != 0.5].reset_index(names="id")
    return by_ad.assign(label=np.where(by_ad["defective"] > 0.5, "defective", "acceptable"))


def closing(found: dict[str, Any]) -> list[str]:
    """Return what an audit found, in sentences: each variant against the incumbent, and what is open."""
    base = found["incumbent"]
    said = []
    for row in {row["variant"]: row for row in found["table3"] if row["against"] == BESIDE}.values():
        between = f"{_change(row['low'])} to {_change(row['high'])}"
        if math.isnan(row["change"]):
            said.append(
                f"No defect was found in what {base} let pass in the last weeks, so that no change can be told."
            )
            continue
        said.append(
            f"The weighted false-positive rate of {row['variant']} changed by {_change(row['change'])} against {base} in the "
            f"last weeks (95 % interval {between})."
        )
    for row in {row["variant"]: row for row in found["sequential"]}.values():
        of_variant = [each for each in found["sequential"] if each["variant"] == row["variant"]]
        largest = max(max(each["e_better"], each["e_worse"]) for each in of_variant)
        claim = {
            "better": f"is lower than that of {base}",
            "worse": f"is higher than that of {base}",
            "open": f"cannot be told from that of {base} yet",
        }[row["said"]]
        said.append(
            f"Looked at every week, the rate of {row['variant']} {claim} "
            f"(largest e-value {largest:.3g}, limit {row['limit']:.0f})."
        )
    if found["verdicts"]["given"] < found["verdicts"]["wanted"]:
        open_ones = found["verdicts"]["wanted"] - found["verdicts"]["given"]
        said.append(f"{open_ones} of {found['verdicts']['wanted']} verdicts are not given yet.")
    if found["labels"]["given"] < found["labels"]["wanted"]:
        open_ones = found["labels"]["wanted"] - found["labels"]["given"]
        said.append(f"{open_ones} of {found['labels']['wanted']} labels of a run are not judged again yet.")
    return said


def table3(found: dict[str, Any]) -> str:
    """Return the changes in the form of the paper's Table 3, as text."""
    lines = []
    for variant, against in dict.fromkeys((row["variant"], row["against"]) for row in found["table3"]):
        rows = [row for row in found["table3"] if (row["variant"], row["against"]) == (variant, against)]
        cells = [
            ["Weeks Since Deployment", *(str(row["weeks_since_deployment"]) for row in rows)],
            ["% WFPR Reduction", *(_change(row["change"]) for row in rows)],
            ["95 % interval", *(f"{_change(row['low'])} to {_change(row['high'])}" for row in rows)],
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines.append(f"{variant} against {found['incumbent']} {against}")
        lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        lines.append("")
    return "\n".join(lines)


def _change(share: float) -> str:
    if math.isnan(share):
        return "not known"
    return "any rise" if share > 99 else f"{fixed(100 * share, 1, '+')}\u00a0%"


def _plot(found: dict[str, Any]) -> str:
    """Return the rates by week as SVG, nothing where there is no verdict."""
    weeks = sorted({row["week"] for row in found["weeks"]})
    lines = []
    for place, variant in enumerate(row["variant"] for row in found["variants"]):
        rows = [row for row in found["weeks"] if row["variant"] == variant and row["wfpr"] is not None]
        aside = 0.06 * (place - (len(found["variants"]) - 1) / 2)  # so that no interval hides another
        x = np.array([weeks.index(row["week"]) + 1 + aside for row in rows])
        shares = 100 * np.array([[row["wfpr"], row["low"], row["high"]] for row in rows]).reshape(-1, 3)
        points = [(float(at), *share) for at, share in zip(x, shares.tolist(), strict=True)]
        lines.append(Line(variant, x, shares[:, 0], points=points))
    overall = {row["variant"]: row["wfpr"] for row in found["variants"] if row["wfpr"] is not None}
    if not overall:
        return ""
    told = "; ".join(f"{variant} {percent(rate, 1)}" for variant, rate in overall.items())
    return line_plot(
        [line for line in lines if len(line.x)],
        x_label=f"week, from {weeks[0]} to {weeks[-1]}",
        y_label="WFPR, %",
        name="wfpr",
        alt=f"Weighted false-positive rate by week and variant. Over all weeks: {told}.",
        x_range=(0.5, len(weeks) + 0.5),
        whole=True,
    )


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: they are null."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
