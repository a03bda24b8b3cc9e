import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data import ImageArray, ImageTable, Problems, SplitSettings, split_table, stratified_split, temporal_split

SHARES = {"train": 0.6, "val": 0.25, "test": 0.15}
DAY = pd.Timedelta(days=1)


def table(count: int, **columns) -> ImageTable:
    facts = {"id": [str(i) for i in range(count)], "label": np.arange(count) % 3 // 2, "split": "unassigned", **columns}
    return ImageTable(ImageArray(torch.zeros(count, 3, 1, 1, dtype=torch.uint8)), pd.DataFrame(facts))


def days(*numbers: float | None) -> pd.Series:
    return pd.Series([pd.NaT if n is None else pd.Timestamp("2024-01-01", tz="UTC") + n * DAY for n in numbers])


def straddling(parts: np.ndarray, groups: np.ndarray) -> int:
    inside = pd.Series(parts)[parts != "left_out"]
    return int((inside.groupby(groups[parts != "left_out"]).nunique() > 1).sum())


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(-1, 2), max_size=80),
    weights=st.lists(st.floats(0.05, 1), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
)
def test_single_rows_are_stratified_within_rounding(labels, weights, seed):
    labels = np.array(labels, dtype=np.int64)
    shares = {f"part{i}": weight / sum(weights) for i, weight in enumerate(weights)}
    parts = stratified_split(labels, np.arange(len(labels)), shares, seed)
    for label in set(labels):
        for name, share in shares.items():
            count = ((parts == name) & (labels == label)).sum()
            assert abs(count - share * (labels == label).sum()) < 1
    assert np.array_equal(parts, stratified_split(labels, np.arange(len(labels)), shares, seed))


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), min_size=1, max_size=80), seed=st.integers(0, 10**6)
)
def test_groups_never_straddle_a_random_split(rows, seed):
    labels, groups = np.array(rows, dtype=np.int64).T
    parts = stratified_split(labels, groups, SHARES, seed)
    assert straddling(parts, groups) == 0
    own = 100 * labels + groups  # groups of one class: off by less than the largest of them
    parts = stratified_split(labels, own, SHARES, seed)
    assert straddling(parts, own) == 0
    for label in set(labels):
        largest = np.bincount(own[labels == label]).max()
        for name, share in SHARES.items():
            assert abs(((parts == name) & (labels == label)).sum() - share * (labels == label).sum()) < largest


def test_another_seed_gives_another_split():
    labels, alone = np.arange(60) % 2, np.arange(60)
    assert not np.array_equal(stratified_split(labels, alone, SHARES, 0), stratified_split(labels, alone, SHARES, 1))


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.one_of(st.none(), st.floats(0, 200)), st.integers(0, 9)), min_size=1, max_size=60),
    gap=st.floats(0, 40),
)
def test_temporal_properties(rows, gap):
    times, groups = days(*(time for time, _ in rows)), np.array([group for _, group in rows])
    parts, reasons = temporal_split(times, groups, SHARES, gap)
    assert straddling(parts, groups) == 0
    assert [part == "left_out" for part in parts] == [reason != "" for reason in reasons]
    assert [reason == "no_time" for reason in reasons] == times.isna().tolist()
    names = list(SHARES)
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        last, first = times[parts == names[earlier]].max(), times[parts == names[later]].min()
        if pd.notna(last) and pd.notna(first):
            assert first - last > pd.Timedelta(0)
            assert first - last >= gap * DAY


def test_temporal_by_hand():
    times = days(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, None)
    alone = np.arange(11)
    shares = {"train": 0.5, "val": 0.3, "test": 0.2}
    parts, reasons = temporal_split(times, alone, shares, gap_days=1)
    expected = ["train"] * 4 + ["left_out"] + ["val"] * 2 + ["left_out"] + ["test"] * 2 + ["left_out"]
    assert parts.tolist() == expected
    assert reasons == [""] * 4 + ["gap", "", "", "gap", "", "", "no_time"]
    groups = np.array([0, 1, 2, 0, 4, 0, 6, 7, 6, 9, 10])
    parts, reasons = temporal_split(times, groups, shares, gap_days=1)
    assert reasons == ["", "", "", "", "gap", "straddles", "", "gap", "straddles", "", "no_time"]


def test_the_papers_table_1():
    chosen = SplitSettings(gap_days=0, burst_days=0)
    labels = np.repeat([0, 1], [4076, 24_456])
    minutes = np.random.default_rng(0).permutation(len(labels)) / 1440
    split = split_table(table(len(labels), label=labels, submitted_at=days(*minutes)), Problems(), chosen).table[
        "split"
    ]
    assert split.value_counts()[["train", "test"]].tolist() == [17_500, 5_432]
    labels = np.repeat([0, 1], [800, 4_800])
    parts = stratified_split(labels, np.arange(5_600), chosen.val_parts, 0)
    counts = pd.crosstab(parts, labels)
    assert counts.loc[["teacher_val", "teacher_test", "student_val"]].to_numpy().tolist() == [
        [160, 960],
        [160, 960],
        [480, 2880],
    ]


def test_without_time_the_split_is_random_and_stratified():
    problems = Problems()
    after = split_table(table(300), problems)
    counts = pd.crosstab(after.table["split"], after.table["label"])
    assert counts.loc["train"].tolist() == [123, 61]  # 0.6133 of 200 and 100
    assert counts.sum().tolist() == [200, 100]
    assert set(counts.index) == {"train", "teacher_val", "teacher_test", "student_val", "test"}
    assert not problems.counts()
    assert after.table["split"].equals(split_table(table(300), problems).table["split"])
    assert not after.table["split"].equals(split_table(table(300), problems, SplitSettings(seed=1)).table["split"])


def test_an_advertiser_without_times_is_never_parted():
    advertiser = np.array(["", *"abcdefghijklmnopqrstuvwx"])[np.arange(600) % 25]
    split = split_table(table(600, advertiser=advertiser), Problems()).table["split"]
    assert (split.groupby(advertiser).nunique()[1:] == 1).all()
    assert split[advertiser == ""].nunique() > 1


def test_bursts_and_duplicates_never_straddle():
    rng = np.random.default_rng(0)
    times = days(*np.sort(rng.uniform(0, 365, 2000)))
    advertiser = rng.choice(["", "a", "b", "c", "d", "e"], 2000, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    groups = np.where(rng.random(2000) < 0.1, rng.integers(0, 50, 2000), np.arange(2000))
    problems = Problems()
    chosen = SplitSettings(burst_days=2, gap_days=15)
    after = split_table(table(2000, submitted_at=times, advertiser=advertiser), problems, chosen, groups)
    split = after.table["split"].to_numpy(object)
    assert straddling(split, groups) == 0
    for name in "abcde":
        rows = np.flatnonzero((advertiser == name) & (split != "left_out"))
        close = np.diff(times[rows]) <= 2 * DAY
        assert close.any()
        assert (split[rows[1:]][close] == split[rows[:-1]][close]).all()
    assert set(problems.counts()) == {"gap", "straddles"}
    assert sum(problems.counts().values()) == (split == "left_out").sum()
    first = {name: times[split == name].min() for name in ("train", "student_val", "test")}
    assert first["train"] < first["student_val"] < first["test"]
    assert first["test"] - times[np.isin(split, ["teacher_val", "teacher_test", "student_val"])].max() >= 15 * DAY


def test_a_given_split_is_honoured_and_only_val_divided():
    given_split = np.array(["train", "val", "val", "test", "unlabelled", "left_out"])[np.arange(300) % 6]
    label = np.arange(300) // 6 % 2
    before = table(300, split=given_split, label=label, submitted_at=days(*range(300)))
    after = split_table(before, Problems()).table["split"]
    kept = given_split != "val"
    assert (after[kept] == given_split[kept]).all()
    assert after[~kept].value_counts().to_dict() == {"student_val": 60, "teacher_val": 20, "teacher_test": 20}
    complete = split_table(table(300, split=after, label=label), Problems()).table["split"]
    assert complete.equals(after)


def test_a_missing_class_is_told_with_its_cause():
    with pytest.raises(ValueError, match=r"none of the 300 labelled examples is defective, and .* your labels mean"):
        split_table(table(300, label=np.ones(300, dtype=int)), Problems())
    both = np.arange(300) % 2
    with pytest.raises(
        ValueError, match=r"'.*val' has 0 examples .* mark some examples that are defective as 'val', or"
    ):
        split_table(table(300, label=both, split="train"), Problems())
    own = np.array(["train", "val", "test"], dtype=object)[np.arange(300) % 3]
    with pytest.raises(
        ValueError, match=r"'test' has 100 examples .* mark some examples that are acceptable as 'test'"
    ):
        split_table(table(300, label=np.where(own == "test", 0, both), split=own), Problems())
    own[own == "val"] = "unassigned"  # which are drawn, and too few
    with pytest.raises(ValueError, match=r"'student_val' has .* give more data"):
        split_table(table(300, label=np.where(own == "unassigned", 1, both), split=own), Problems())


def test_a_missing_class_is_an_error():
    label = np.ones(300, dtype=int)
    label[:3] = 0
    label[0] = 1
    with pytest.raises(ValueError, match=r"split '\w+' has \d+ examples and none of them is defective"):
        split_table(table(300, label=label), Problems())
    with pytest.raises(ValueError, match="split 'train' has 0 examples"):
        split_table(table(30, submitted_at=days(*range(30))), Problems(), SplitSettings(gap_days=400))


def test_fifty_rows_are_divided_without_specialists_where_too_few_could_judge_them():
    problems = Problems()
    after = split_table(table(50, label=(np.arange(50) % 10 > 1).astype(int)), problems).table
    counts = pd.crosstab(after["split"], after["label"])
    assert set(counts.index) == {"train", "student_val", "test"}
    assert (counts > 0).all(axis=None)
    assert [problem.reason for problem in problems] == ["few_to_judge"]
    enough = split_table(table(240, label=(np.arange(240) % 10 > 1).astype(int)), Problems()).table
    counts = pd.crosstab(enough["split"], enough["label"])
    assert len(counts) == 5
    assert counts[0].min() >= 2


def test_no_optional_column_drops_a_row_or_ends_a_run():
    """Ten days of one advertiser, rows without a time, and times at one end only."""
    ten_days = days(*np.linspace(0, 10, 240))
    for columns, reasons in (
        ({"advertiser": "acme"}, ["bursts_parted"]),
        ({"submitted_at": days(*[None] * 240)}, ["few_times"]),
        ({"submitted_at": days(*range(200), *[None] * 40)}, ["no_time"] * 40 + ["short_gap"]),
        ({"advertiser": "acme", "submitted_at": ten_days}, ["bursts_parted", "short_gap"]),
        ({"submitted_at": ten_days, "label": (np.arange(240) > 60).astype(int)}, ["times_not_used"]),
    ):
        problems = Problems()
        after = split_table(table(240, **columns), problems).table
        assert set(problems.counts()) <= {"gap"}
        assert sum(problems.counts().values()) == (after["split"] == "left_out").sum() <= 24
        assert sorted(problem.reason for problem in problems if not problem.left_out) == reasons
        counts = pd.crosstab(after["split"], after["label"]).drop("left_out", errors="ignore")
        assert len(counts) == 5
        assert (counts > 0).all(axis=None)
        if "no_time" in reasons:
            assert (after["split"][200:] == "train").all()


def test_a_given_gap_is_kept():
    problems = Problems()
    after = split_table(table(300, submitted_at=days(*range(300))), problems, SplitSettings(gap_days=20)).table
    assert problems.counts() == {"gap": (after["split"] == "left_out").sum()} == {"gap": 40}
    assert not problems.warnings()


@pytest.mark.parametrize(
    "change",
    [{"train": 0}, {"teacher_val": 0.5, "teacher_test": 0.5}, {"burst_days": 3, "gap_days": 2}, {"val": float("nan")}],
)
def test_senseless_settings(change):
    with pytest.raises(ValueError, match=rf"splits\.{next(iter(change))}"):
        SplitSettings(**change)


@pytest.mark.parametrize(
    ("marked", "parts"),
    [
        (("test",), {"train": 12 / 17, "val": 5 / 17}),
        (("test", "student_val", "teacher_val", "teacher_test"), {"train": 1.0}),
        (("train", "val"), {"test": 1.0}),
        (("train",), {"val": 5 / 8, "test": 3 / 8}),
    ],
)
@pytest.mark.parametrize("timed", [False, True])
def test_rows_without_a_split_go_to_the_parts_that_no_row_names(marked, parts, timed):
    split = np.array([*np.repeat(marked, 120 // len(marked)), *["unassigned"] * 240], dtype=object)
    columns = {"submitted_at": days(*np.arange(360) / 10)} if timed else {}
    problems = Problems()
    chosen = SplitSettings(train=0.6, val=0.25, test=0.15, gap_days=0.0, burst_days=0.0)
    found = split_table(table(360, split=split, **columns), problems, chosen).table["split"].to_numpy()
    given = split[:120] != "val"  # which is divided
    assert (found[:120][given] == split[:120][given]).all()
    merged = np.where(np.char.endswith(found.astype(str), "_val") | (found == "teacher_test"), "val", found)
    for part, share in parts.items():
        assert (merged[120:] == part).sum() == pytest.approx(240 * share, abs=2)
    (warned,) = [problem for problem in problems if problem.reason == "partly_split"]
    assert warned.detail == f"240 rows without a split go to {' and '.join(parts)}, which no row names"
