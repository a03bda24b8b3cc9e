"""Audits: what is drawn, who judges it, and that nothing is lost or asked twice; on SQLite and on PostgreSQL."""

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from shop import fill, weeks
from sqlalchemy import select

from tutelage import cli
from tutelage.metrics import doubts
from tutelage.production.audits import draw, draw_doubts
from tutelage.production.decisions import DecisionLog, week_of
from tutelage.production.impressions import add_impressions
from tutelage.production.tables import impressions, items, strata
from tutelage.production.verdicts import Desk, Taken


@pytest.fixture
def log(place):
    with DecisionLog(place) as opened:
        yield opened


def rows(log, table):
    with log.database.read() as connection:
        return pd.DataFrame(connection.execute(select(table)).mappings().all())


def test_a_draw_is_of_what_passed_and_was_shown_by_week_and_variant(log):
    fill(log, 2)
    log.record("2026-W02-0000", "model-x", 9.0, "acceptable", "looks on", shadow=True)
    found = draw(log.database, 44, overlap=0.1, seed=1)
    assert sum(found.ads.values()) == 40
    assert found.verdicts == 44
    drawn, totals = rows(log, items), rows(log, strata)
    table = log.table().query("~shadow").set_index("ad_id")
    assert drawn["ad_id"].is_unique
    assert (table["decision"][drawn["ad_id"]] == "acceptable").all()
    assert (table["variant"][drawn["ad_id"]].to_numpy() == drawn["variant"]).all()
    assert sorted(drawn["place"]) == list(range(40))
    assert drawn["wanted"].value_counts().to_dict() == {1: 36, 2: 4}
    assert drawn.groupby(["week", "variant"]).size().to_dict() == found.ads
    for (week, variant), group in drawn.groupby(["week", "variant"]):
        (stratum,) = totals[(totals["week"] == week) & (totals["variant"] == variant)].to_dict("records")
        assert (group["probability"] > 0).all()
        open_units = group[group["probability"] < 1]
        rest = stratum["impressions"] - group.loc[group["probability"] == 1, "impressions"].sum()
        assert np.allclose(open_units["probability"], len(open_units) * open_units["impressions"] / rest)
        assert (
            stratum["ads"]
            == (table["decision"].eq("acceptable") & table["variant"].eq(variant))[
                table.index.str.startswith(week)
            ].sum()
        )


def test_a_week_is_drawn_once_and_the_same_seed_draws_the_same(log, tmp_path):
    fill(log, 2)
    first, second = weeks(2)
    draw(log.database, 20, [second], seed=3)
    with pytest.raises(ValueError, match=r"weeks=.*drawn before; a week is drawn once"):
        draw(log.database, 20, [second])
    assert {week for week, _ in draw(log.database, 20, seed=3).ads} == {first}
    with pytest.raises(ValueError, match="nothing that passed had impressions in a week that is over and not drawn"):
        draw(log.database, 20)
    with DecisionLog(tmp_path / "again.sqlite") as other:
        fill(other, 2)
        draw(other.database, 20, [second], seed=3)
        assert set(rows(other, items)["ad_id"]) == set(rows(log, items).query("week == @second")["ad_id"])


def test_a_week_that_is_not_over_is_not_drawn_and_stays_open(log):
    fill(log, 1)
    now = datetime.now(UTC)
    running, coming = week_of(now), week_of(now + timedelta(days=7))
    log.add_impressions([(ad, week, 5) for ad in log.table()["ad_id"] for week in (running, coming)])
    for week in (running, coming):
        with pytest.raises(ValueError, match=rf"weeks=\['{week}'\]: not over yet \(this is {running}"):
            draw(log.database, 10, [week])
    assert {week for week, _ in draw(log.database, 10).ads} == set(weeks(1))


def test_weeks_of_the_same_ads_and_impressions_are_not_the_same_sample(log):
    for ad in range(400):
        log.record(f"ad-{ad}", "m", 1.0, "acceptable", "incumbent", decided_at=datetime(2026, 1, 5, tzinfo=UTC))
    both = weeks(2)
    log.add_impressions([(f"ad-{ad}", week, 10) for ad in range(400) for week in both])
    for week in both:
        draw(log.database, 40, [week], overlap=0)
    first, second = (set(group["ad_id"]) for _, group in rows(log, items).groupby("week"))
    assert len(first & second) < 15  # of 40; 4 are expected of independent draws, 40 of the same one


def test_a_later_decision_counts_from_its_week(log):
    fill(log, 1, ads=10)
    (week,) = weeks(1)
    passed = log.table().query("decision == 'acceptable'")["ad_id"].tolist()
    before, after = (pd.Timestamp(day, tz="UTC").to_pydatetime() for day in ("2026-01-10", "2026-01-13"))
    log.record(passed[0], "model-later", -5.0, "defective", "new", decided_at=before)  # in the week: taken down
    log.record(passed[1], "model-later", -5.0, "defective", "new", decided_at=after)
    found = draw(log.database, 100, [week], overlap=0)
    assert sum(found.ads.values()) == len(passed) - 1
    assert passed[0] not in set(rows(log, items)["ad_id"])


def test_budgets_that_make_no_sense(log):
    fill(log, 1, ads=10)
    with pytest.raises(ValueError, match="budget=3 must be at least 4"):
        draw(log.database, 3, overlap=0)
    with pytest.raises(ValueError, match="budget=0 must be an integer of at least 1"):
        draw(log.database, 0)
    with pytest.raises(ValueError, match=r"overlap=2 must be a number in \[0, 1\]"):
        draw(log.database, 9, overlap=2)


def test_doubted_labels_are_sent_to_be_judged_again(log, tmp_path):
    label, wrong = np.array([0, 1, 1, 1, -1]), np.array([0.9, 0.7, 0.99, 0.2, 0.5])
    acceptable = np.where(label == 0, wrong, 1 - wrong)
    examples = pd.DataFrame({
        "id": list("abcde"), "image": ["a.png", "b.png", "", "d.png", "e.png"], "label": label, "split": "train",
        "subtask": [3, -1, -1, -1, -1], "headline": ["A", None, None, None, None],
        **doubts(label, np.stack([1 - acceptable, acceptable], 1)),
    })  # fmt: skip
    (tmp_path / "metrics.json").write_text('{"data": {"classes": ["defective", "acceptable"]}}')
    with pytest.raises(FileNotFoundError, match="holds no examples"):
        draw_doubts(log.database, tmp_path, 5)
    examples.to_parquet(tmp_path / "examples.parquet")
    assert draw_doubts(log.database, tmp_path, 5).verdicts == 2
    (tmp_path / "subtask_names.csv").write_text("subtask,name\n3,Weapons\n", encoding="utf-8")
    draw_doubts(log.database, tmp_path, 5)
    assert rows(log, items)["subtask"].dropna().tolist() == ["sub-task 3", "Weapons"]
    found = rows(log, items).drop_duplicates("ad_id").set_index("ad_id").sort_index()
    assert found.loc["a", ["image", "label", "headline", "subtask"]].tolist() == [
        "a.png",
        "defective",
        "A",
        "sub-task 3",
    ]
    assert found.loc["b", ["image", "label"]].tolist() == ["b.png", "acceptable"]
    examples.assign(doubted=False).to_parquet(tmp_path / "examples.parquet")
    with pytest.raises(ValueError, match="has no doubted label whose image is a file"):
        draw_doubts(log.database, tmp_path, 5)


def test_a_moderator_keeps_what_he_has_until_he_judges_it_and_can_take_it_back(log):
    fill(log, 1)
    draw(log.database, 10, overlap=0)
    desk = Desk(log.database)
    first = desk.next("ann")
    assert desk.next("ann") == first
    assert desk.next("ben").id != first.id
    desk.give(first.id, "ann", "acceptable")
    second = desk.next("ann")
    assert second.id != first.id
    again = desk.undo("ann")
    assert (again.id, again.verdict) == (first.id, "acceptable")
    assert desk.next("ann").id == first.id
    assert desk.progress("ann") == desk.progress("ben") == type(desk.progress("ann"))(0, 0, 10)
    desk.give(first.id, "ann", "defective")
    desk.give(first.id, "ann", "defective")  # a retry
    assert (desk.progress("ann").given, desk.progress("ann").mine, desk.progress("ben").mine) == (1, 1, 0)
    assert desk.undo("carl") is None
    with pytest.raises(ValueError, match="verdict='perhaps' must be one of"):
        desk.give(first.id, "ann", "perhaps")
    with pytest.raises(ValueError, match="item=999: there is no such item"):
        desk.give(999, "ann", "unsure")


def test_what_is_lent_too_long_goes_to_another(log):
    fill(log, 1)
    draw(log.database, 4, overlap=0)
    slow, desk = Desk(log.database, timedelta(0)), Desk(log.database)
    item = slow.next("ann")
    assert desk.next("ben").id == item.id
    with pytest.raises(Taken, match="your time for this advertisement had run out"):
        desk.give(item.id, "ann", "defective")
    desk.give(item.id, "ben", "acceptable")
    with pytest.raises(Taken):
        desk.give(item.id, "ann", "defective")
    late = slow.next("ann")
    desk.give(late.id, "ann", "unsure")  # late, but nobody else took it
    assert desk.progress("ann").mine == 1


def test_several_moderators_at_once_judge_all_and_nothing_twice(log):
    fill(log, 1)
    found = draw(log.database, 33, overlap=0.5)
    judged: list[tuple[str, int]] = []

    def moderate(name: str) -> None:
        desk = Desk(log.database)
        while (item := desk.next(name)) is not None:
            desk.give(item.id, name, "acceptable")
            judged.append((name, item.id))

    threads = [threading.Thread(target=moderate, args=(name,)) for name in ("ann", "ben", "carl")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(judged) == len(set(judged)) == found.verdicts
    wanted = rows(log, items).set_index("id")["wanted"].to_dict()
    assert Counter(item for _, item in judged) == wanted
    progress = Desk(log.database).progress("ann")
    assert progress.given == progress.wanted == found.verdicts


def test_impressions_come_from_a_table_and_what_is_wrong_in_it_is_counted(log, tmp_path):
    table = tmp_path / "impressions.csv"
    table.write_text("id,week,impressions\na,2026-W07,5\nb,2026-W07,many\nc,2026-W99,1\nd,2026-W07,-1\n")
    said = add_impressions(log, table)
    assert said.startswith("impressions: 1 set; ")
    assert said.endswith("3 left out: bad_impressions 2, bad_week 1")
    assert rows(log, impressions)[["ad_id", "week", "impressions"]].to_numpy().tolist() == [["a", "2026-W07", 5.0]]
    table.write_text("id,week\na,2026-W07\n")
    with pytest.raises(ValueError, match="has no column 'impressions'; it has id, week"):
        add_impressions(log, table)


def test_the_commands_draw_and_report(tmp_path, capsys):
    with DecisionLog(tmp_path / "log.sqlite") as log:
        fill(log, 1, ads=20)
        doomed = log.table().query("decision == 'acceptable'")["ad_id"].iloc[0]
    table = tmp_path / "more.csv"
    table.write_text(f"id,week,impressions\n{doomed},2026-W02,1000000\n")
    database = str(tmp_path / "log.sqlite")
    cli.main(["audit", "draw", database, "--verdicts", "9", "--overlap", "0.5", "--impressions", str(table)])
    out = capsys.readouterr().out
    assert "impressions: 1 set" in out
    assert "audit 1: 9 verdicts of 6 advertisements (2026-W02 new: 3; 2026-W02 old: 3)" in out
    with DecisionLog(database) as log:
        drawn = rows(log, items)
        assert drawn.set_index("ad_id").loc[doomed, "probability"] == 1
        for item in drawn.itertuples():
            Desk(log.database).give(item.id, "ann", "defective")
    cli.main(["audit", "report", database, "--out", str(tmp_path / "audit"), "--incumbent", "old"])
    out = capsys.readouterr().out
    assert "Weeks Since Deployment" in out
    assert "3 of 9 verdicts are not given yet." in out
    assert (tmp_path / "audit" / "report.html").is_file()
