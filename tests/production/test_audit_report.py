"""The report of audits: its figures are right for a shop whose truth is known, and its manifest can be trained on."""

import json
import math
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from shop import fill, weeks
from sqlalchemy import insert, select, update

from tutelage.data.manifest import read_manifest
from tutelage.metrics import doubts
from tutelage.production.audit_figures import Audited, figures, read_audits
from tutelage.production.audit_report import closing, table3, write_audit_report, write_manifests
from tutelage.production.audits import draw, draw_doubts
from tutelage.production.decisions import DecisionLog
from tutelage.production.tables import items, strata, verdicts

VERDICTS = {True: "defective", False: "acceptable"}


def judge(log, defects, wrong=0.0, most=10**9, seed=0):
    """Moderators who know the truth, and tell it but for a share of the time; as many verdicts as are wanted."""
    generator = np.random.default_rng(seed)
    now = datetime.now(UTC)
    with log.database.engine.begin() as connection:
        done = set(connection.execute(select(verdicts.c.item_id)).scalars())
        said = [
            {
                "item_id": item.id,
                "moderator": name,
                "verdict": VERDICTS[defects[item.ad_id] != (generator.random() < wrong)],
            }
            for item in connection.execute(select(items).order_by(items.c.place)).all()
            if item.id not in done
            for name in ("ann", "ben", "carl")[: item.wanted]
        ][:most]
        connection.execute(insert(verdicts).values(given_at=now), said)


@pytest.fixture
def log(tmp_path):
    with DecisionLog(tmp_path / "decisions.sqlite") as opened:
        yield opened


def test_a_census_finds_the_truth_of_every_week_and_variant(log):
    defects = fill(log, 3, ads=25, begins=1)
    draw(log.database, 10_000, overlap=0)
    judge(log, defects)
    found = figures(log.database)
    assert found["incumbent"] == "old"
    audited = read_audits(log.database)
    for row in found["weeks"]:
        drawn = audited.items[(audited.items["week"] == row["week"]) & (audited.items["variant"] == row["variant"])]
        bad = drawn["impressions"] @ drawn["ad_id"].map(defects).astype(float)
        assert row["wfpr"] == pytest.approx(bad / drawn["impressions"].sum())
        assert row["variance"] == 0
        assert row["complete"]
        assert row["impressions"] == pytest.approx(drawn["impressions"].sum())
    assert found["verdicts"]["given"] == found["verdicts"]["wanted"] == len(audited.items)
    assert [row["week"] for row in found["weeks"] if row["variant"] == "new"] == weeks(3)[1:]


def test_table_3_compares_four_weeks_with_those_before_and_beside(log):
    defects = fill(log, 10, ads=40, rates={"old": 0.3, "new": 0.1}, begins=4)
    draw(log.database, 10_000, overlap=0)
    judge(log, defects)
    found = figures(log.database)
    rows = {(row["weeks_since_deployment"], row["against"]): row for row in found["table3"]}
    assert set(rows) == {
        (since, against) for since in (4, 6) for against in ("in the 4 weeks before", "in the same weeks")
    }
    audited = read_audits(log.database).items
    audited["defective"] = audited["ad_id"].map(defects).astype(float)

    def rate(variant, of):
        chosen = audited[(audited["variant"] == variant) & audited["week"].isin(of)]
        return (chosen["impressions"] @ chosen["defective"]) / chosen["impressions"].sum()

    days = weeks(10)
    assert rows[4, "in the 4 weeks before"]["change"] == pytest.approx(
        rate("new", days[4:8]) / rate("old", days[:4]) - 1
    )
    assert rows[6, "in the 4 weeks before"]["change"] == pytest.approx(
        rate("new", days[6:]) / rate("old", days[:4]) - 1
    )
    assert rows[6, "in the same weeks"]["change"] == pytest.approx(rate("new", days[6:]) / rate("old", days[6:]) - 1)
    assert [row["week"] for row in found["sequential"]] == days[4:]
    text = table3(found)
    assert "Weeks Since Deployment" in text
    assert "new against old in the same weeks\n" in text
    assert f"{100 * rows[4, 'in the 4 weeks before']['change']:+.1f}".replace("-", "−") in text


def test_a_real_difference_is_found_and_stays_found_and_a_week_without_all_verdicts_does_not_count(log):
    defects = fill(log, 8, ads=500, rates={"old": 0.3, "new": 0.05})
    draw(log.database, 1600, overlap=0.05)
    judge(log, defects, wrong=0.01)
    found = figures(log.database, incumbent="old")
    said = [row["said"] for row in found["sequential"]]
    assert said[-1] == "better"
    assert said == sorted(said, reverse=True)  # open, then better
    last = found["sequential"][-1]
    assert last["low"] < found["table3"][-1]["change"] < last["high"] < 0
    assert found["agreement"]["alpha"] > 0.8
    assert any("is lower than that of old" in sentence for sentence in closing(found))
    with log.database.engine.begin() as connection:
        first = connection.execute(select(items.c.id).where(items.c.week == weeks(8)[2]).limit(1)).scalar_one()
        connection.execute(items.update().where(items.c.id == first).values(wanted=3))
    again = figures(log.database, incumbent="old")
    assert [row["week"] for row in again["sequential"]] == [week for week in weeks(8) if week != weeks(8)[2]]
    assert "verdicts are not given yet" in closing(again)[-1]


def test_what_a_report_leaves_behind(log, tmp_path):
    defects = fill(log, 6, ads=60, begins=1)
    found = draw(log.database, 150, overlap=0.2)
    judge(log, defects, wrong=0.1)
    out = tmp_path / "audit"
    write_audit_report(log.database, out)
    html = (out / "report.html").read_text()
    told = json.loads((out / "report.json").read_text())
    assert "NaN" not in html
    assert "Infinity" not in (out / "report.json").read_text()
    assert told["verdicts"]["given"] == found.verdicts
    for name in ("weeks", "table3", "sequential", "drift"):
        assert len(pd.read_csv(out / f"{name}.csv")) == len(told[name]) > 0
    verdicts = pd.read_csv(out / "verdicts.csv")
    assert verdicts["id"].is_unique
    assert (verdicts["weight"] >= 1).all()
    for image in verdicts["image"]:
        Image.new("RGB", (16, 16), "red").save(out / image)
    table, problems = read_manifest(out / "verdicts.csv", size=8, weighted=True)
    assert np.allclose(table.table["weight"], verdicts["weight"])
    assert len(table) == len(verdicts)
    assert problems.counts() == {}
    assert (table.table["label"] == (verdicts["label"] == "acceptable")).all()


def test_an_ad_that_was_drawn_in_two_weeks_is_one_row_of_the_manifest(tmp_path):
    items = pd.DataFrame({
        "id": [1, 2, 3, 4], "ad_id": ["a", "b", "a", "c"], "week": ["2026-W02", "2026-W02", "2026-W03", "2026-W03"],
        "variant": "old", "image": "x.png", "headline": "X", "label": None, "impressions": [10.0, 4.0, 30.0, 5.0],
        "probability": [0.5, 0.25, 1.0, 0.5], "defective": [1.0, 0.0, 1.0, 0.5], "given": [1, 1, 2, 2],
    })  # fmt: skip
    assert write_manifests(Audited(items, items, items), tmp_path) == {"verdicts.csv": 2, "labels.csv": 0}
    found = pd.read_csv(tmp_path / "verdicts.csv").set_index("id")
    assert found.loc["a", ["label", "weight", "impressions", "verdicts", "week"]].tolist() == [
        "defective", 3.0, 40.0, 3, "2026-W03",
    ]  # fmt: skip
    assert found.loc["b", ["label", "weight"]].tolist() == ["acceptable", 4.0]


def test_labels_that_were_judged_again_are_a_manifest_of_their_own(log, tmp_path):
    fill(log, 1, ads=20)
    draw(log.database, 8, overlap=0)
    examples = pd.DataFrame(
        {
            "id": ["x", "y"],
            "image": ["x.png", "y.png"],
            "label": [0, 1],
            "subtask": -1,
            "split": "train",
            **doubts([0, 1], [[0.1, 0.9], [0.8, 0.2]]),
        }
    )
    (tmp_path / "metrics.json").write_text('{"data": {"classes": ["defective", "acceptable"]}}')
    examples.to_parquet(tmp_path / "examples.parquet")
    judge(log, dict.fromkeys(read_audits(log.database).items["ad_id"], False))
    draw_doubts(log.database, tmp_path, 2)
    open_ones = figures(log.database, "old")
    assert (
        open_ones["verdicts"]["given"] == open_ones["verdicts"]["wanted"] == 8
    )  # of what passed, and these are all there
    assert open_ones["labels"] == {"given": 0, "wanted": 2}
    assert [each for each in closing(open_ones) if " yet." in each] == [
        "2 of 2 labels of a run are not judged again yet."
    ]
    judge(log, dict.fromkeys(read_audits(log.database).items["ad_id"], False))
    write_audit_report(log.database, tmp_path / "audit", incumbent="old")
    found = pd.read_csv(tmp_path / "audit" / "labels.csv").set_index("id")
    assert found["label"].to_dict() == {"x": "acceptable", "y": "acceptable"}
    assert found["given_label"].to_dict() == {"x": "defective", "y": "acceptable"}
    assert not set(found.index) & set(pd.read_csv(tmp_path / "audit" / "verdicts.csv")["id"])


def test_the_variant_that_serve_calls_incumbent_is_it(log):
    defects = fill(log, 1, ads=40)
    draw(log.database, 12, overlap=0)
    judge(log, defects)
    with log.database.engine.begin() as connection:
        for table in (strata, items):
            connection.execute(update(table).where(table.c.variant == "old").values(variant="incumbent"))
    assert figures(log.database)["incumbent"] == "incumbent"
    assert figures(log.database, "new")["incumbent"] == "new"


def test_reports_without_verdicts_or_with_little(log, tmp_path):
    with pytest.raises(ValueError, match="nothing was audited: draw a sample"):
        figures(log.database)
    defects = fill(log, 1, ads=40)
    draw(log.database, 12, overlap=0)
    with pytest.raises(ValueError, match="new and old began in the same week; name the incumbent: --incumbent new"):
        figures(log.database)
    with pytest.raises(ValueError, match="incumbent='x': the audited variants are new, old"):
        figures(log.database, "x")
    none = write_audit_report(log.database, tmp_path / "audit", "old")
    assert none["table3"] == none["sequential"] == none["drift"] == []
    assert not (tmp_path / "audit" / "verdicts.csv").exists()
    judge(log, defects, most=2)
    some = write_audit_report(log.database, tmp_path / "audit", "old")
    assert some["verdicts"]["given"] == 2
    assert some["sequential"] == []
    assert "not given yet" in closing(some)[-1]
    judge(log, dict.fromkeys(defects, False))
    every = write_audit_report(log.database, tmp_path / "audit", "old")
    assert len(every["sequential"]) == 1
    assert every["sequential"][0]["high"] == math.inf
