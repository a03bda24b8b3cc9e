"""Numbers, times and splits as people write them; what cannot be read is told from what is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import pandas as pd

from tutelage.data.problems import Problems
from tutelage.files import NUMBER

Dates = Literal["auto", "day_first", "month_first"]

_GROUPS = {",": r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}", ".": r"[1-9]\d{0,2}(?:\.\d{3})+"}
_EXPONENT = r"(?:[eE][+-]?\d+)?"
_DATE = r"(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?!\d)[,\s]*(.*)"
_ALIASES = {
    **dict.fromkeys(("valid", "validation", "dev"), "val"),
    "training": "train",
    "testing": "test",
    "unlabeled": "unlabelled",
}


def numbers(cells: pd.Series, counts: bool = False) -> pd.Series:
    """Return texts as numbers, NaN for those that are none: ``1234.5``, ``1,234.5``, ``1.234,5``, ``1 234,5``, ``1'234.5``.

    Whether a comma divides thousands or decimals is a fact of the whole column: ``1,5`` or ``1.234,5`` in one cell shows that
    it is decimal. Where no cell shows it, a comma before three digits divides thousands, and the point is decimal; of counts,
    which have no decimals, a point before three digits divides thousands too.
    """
    text = cells.str.strip().str.replace(r"(?<=\d)[\s'’](?=\d{3}(?!\d))", "", regex=True)
    comma = text.str.fullmatch(rf"[+-]?(?:{_GROUPS['.']}|\d*),\d+{_EXPONENT}|[+-]?\d{{1,3}}(?:\.\d{{3}}){{2,}}")
    comma &= ~text.str.fullmatch(rf"[+-]?{_GROUPS[',']}")
    point = text.str.fullmatch(rf"[+-]?(?:{_GROUPS[',']}|\d*)\.\d*{_EXPONENT}|[+-]?\d{{1,3}}(?:,\d{{2,3}})+,\d{{3}}")
    point &= ~text.str.fullmatch(rf"[+-]?{_GROUPS['.']}")
    if point.any():
        decimal_comma = comma
    elif counts and not comma.any():
        decimal_comma = text.str.fullmatch(rf"[+-]?{_GROUPS['.']}")
    else:
        decimal_comma = pd.Series(bool(comma.any()), index=text.index)
    continental = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    grouped = text.str.fullmatch(rf"[+-]?{_GROUPS[',']}(?:\.\d*)?{_EXPONENT}")
    plain = text.mask(grouped, text.str.replace(",", "", regex=False)).where(~decimal_comma, continental)
    return pd.to_numeric(plain.where(plain != "", "nan"), errors="coerce").astype(float)


def times(cells: pd.Series, dates: Dates = "auto") -> tuple[pd.Series, pd.Series]:
    """Return texts as times (UTC where they name no zone), and for which of them day and month could not be told apart.

    Read are ISO 8601, ``5 May 2024``, seconds or milliseconds since 1970, and days and months as numbers divided by slashes,
    points or dashes. Which of the two stands first is a fact of the whole column: a number above 12 in any cell shows it.
    Where points divide them, the day stands first.

    Args:
        cells: texts, empty where there is no time.
        dates: what stands first; ``auto`` looks at the column.
    """
    found = pd.to_datetime(cells, utc=True, errors="coerce", format="ISO8601")
    parts = cells.where(found.isna(), "").str.extract(rf"^{_DATE}$").astype(object)
    first, second = (pd.to_numeric(parts[place]) for place in (0, 2))
    numeric = first.notna()
    day_first = (first > 12) & (second <= 12) | (numeric & (parts[1] == ".") & (second <= 12)) | (first == second)
    month_first = (second > 12) & (first <= 12)
    shown = [bool((order & (first != second)).any()) for order in (day_first, month_first)]
    open_ = numeric & ~day_first & ~month_first & (first <= 12) & (second <= 12)
    if dates == "month_first" or (dates == "auto" and shown == [False, True]):
        month_first |= open_
    elif dates == "day_first" or (dates == "auto" and shown == [True, False]):
        day_first |= open_
    unclear = open_ & ~day_first & ~month_first
    year = parts[3].where(parts[3].str.len() != 2, "20" + parts[3])
    day, month = first.where(day_first, second), second.where(day_first, first)
    iso = year + "-" + _two(month) + "-" + _two(day) + " " + parts[4]
    words = cells.where(cells.str.contains(r"[^\W\d_]{3}") & cells.str.contains(r"\b\d{4}\b"))
    found = found.fillna(_parsed(iso.where(day_first | month_first).str.strip())).fillna(
        _parsed(words.where(found.isna() & ~numeric))
    )
    for digits, scale in ((10, 1), (13, 1000)):
        since = pd.to_numeric(cells.where(cells.str.fullmatch(rf"\d{{{digits}}}")))
        found = found.fillna(pd.to_datetime(since / scale, unit="s", utc=True))
    return found, unclear


def _two(number: pd.Series) -> pd.Series:
    return number.astype("Int64").astype("string").str.zfill(2).astype(object)


def _parsed(texts: pd.Series) -> pd.Series:
    return pd.to_datetime(texts, utc=True, errors="coerce", format="mixed")


def one_spelling(cells: pd.Series, problems: Problems) -> pd.Series:
    """Return names of classes; those that differ in case alone get the more frequent spelling, with a warning."""
    counts = cells[cells != ""].value_counts().sort_index(ascending=False).sort_values(ascending=False, kind="stable")
    spelling: dict[str, str] = {}
    for name in counts.index:
        kept = spelling.setdefault(name.casefold(), name)
        if kept != name:
            told = f"{name!r} ({counts[name]:,}) and {kept!r} ({counts[kept]:,}) differ in case alone"
            problems.warn("", "spellings", f"{told}: they are one class, {kept!r}")
    return cells.map(lambda name: spelling.get(name.casefold(), name))


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of classes that occur, without the empty one: by number where all are numbers, else by name."""
    found = sorted(set(names) - {""})
    return sorted(found, key=float) if all(NUMBER.fullmatch(name) for name in found) else found


def splits(cells: pd.Series) -> pd.Series:
    """Return names of splits without regard to case; validation, valid and dev are val."""
    names = cells.str.strip().str.lower()
    return names.replace(_ALIASES)


def require_splits(names: pd.Series, known: Sequence[str], source: str) -> None:
    """Refuse names of splits that are not known: a row that is guessed wrong would be trained on and tested on.

    Raises:
        ValueError: there is one, with how often each comes.
    """
    strange = names[(names != "") & ~names.isin(known)].value_counts()
    if len(strange):
        listed = ", ".join(f"{name!r} ({count:,})" for name, count in strange.head(6).items())
        listed += f" and {len(strange) - 6} more" if len(strange) > 6 else ""
        raise ValueError(
            f"{source} holds {listed}; known are {', '.join(known)}. Correct these cells; where the column means something "
            "else, give it another name"
        )


def distinct(ids: pd.Series, content: pd.Series, problems: Problems, labels: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return ids of which none comes twice, and which rows are copies of an earlier one, bool (N,).

    Where other content has an id that came before, its number stands behind it, as in ``a (2)``, and a warning says so. Another
    warning names the labels where a copy has another label than the row that is kept.

    Args:
        ids, content: of each row, such as the image's path.
        problems: collects the warnings.
        labels: of each row as they are written, empty where there is none.
    """
    copies = pd.DataFrame({"id": ids, "content": content}).duplicated()
    kept = labels.groupby([ids, content], sort=False).transform("first")
    for row in ids.index[copies & (labels != "") & (labels != kept)]:
        used = (
            f"the label {kept[row]!r} of the first row is used"
            if kept[row]
            else "the first row has no label, and is used"
        )
        problems.warn(
            ids[row],
            "conflicting_labels",
            f"a later row of the same id and content is labelled {labels[row]!r}; {used}",
        )
    again = ids[~copies].duplicated().reindex(ids.index, fill_value=False)
    taken, counts, found = set(ids), Counter[str](), ids.copy()
    for row in ids.index[again]:
        id = ids[row]
        counts[id] += 1
        while (name := f"{id} ({counts[id] + 1})") in taken:
            counts[id] += 1
        taken.add(name)
        found[row] = name
        problems.warn(name, "repeated_id", f"the id {id!r} comes several times; this row is called {name!r}")
    return found, copies
