"""How fast are labelling rules applied to short texts, and how does that compare with Snorkel's applier?

    python -m benchmarks.speed.rules_speed [--texts 1000000] [--processes 2] [--snorkel 50000]

Ten rules of the kinds that people write (words, regular expressions, lengths, a shared preprocessor) vote on made-up comments.
Snorkel's rules have the same bodies and see the same objects; its `LFApplier` works in one process and is given fewer texts.
Votes are compared. Writes benchmarks/results/rules-speed.md.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from benchmarks.results_table import hardware, markdown_table
from tutelage.data import ABSTAIN, Rule, apply_rules

HAM, SPAM = 0, 1
LINK = re.compile(r"https?://|www\.", re.IGNORECASE)
CHECK = re.compile(r"check.{0,20}out", re.IGNORECASE)
PHONE = re.compile(r"\d{5,}")


def lowered(x):
    x.lower = x.text.lower()
    return x


def begs(x):
    return SPAM if "subscribe" in x.text else ABSTAIN


def mine(x):
    return SPAM if "my channel" in x.text or "my video" in x.text else ABSTAIN


def links(x):
    return SPAM if LINK.search(x.text) else ABSTAIN


def checks(x):
    return SPAM if CHECK.search(x.text) else ABSTAIN


def phones(x):
    return SPAM if PHONE.search(x.text) else ABSTAIN


def short(x):
    return HAM if len(x.text) < 20 else ABSTAIN


def few_words(x):
    return HAM if len(x.text.split()) < 4 else ABSTAIN


def song(x):
    return HAM if "song" in x.lower else ABSTAIN


def love(x):
    return HAM if "love" in x.lower else ABSTAIN


def free(x):
    return SPAM if "free" in x.lower else ABSTAIN


PLAIN = (begs, mine, links, checks, phones, short, few_words)
LOWERED = (song, love, free)
WORDS = [
    *(
        "I",
        "Love",
        "this",
        "song",
        "please",
        "subscribe",
        "to",
        "my channel",
        "Check",
        "it",
        "out",
        "http://x.y",
        "free",
    ),
    *(
        "the",
        "best",
        "voice",
        "ever",
        "2012",
        "call",
        "08712460324",
        "great",
        "video",
        "who",
        "is",
        "here",
        "and",
        "of",
    ),
]


def rules() -> list[Rule]:
    return [*(Rule(function) for function in PLAIN), *(Rule(function, pre=[lowered]) for function in LOWERED)]


def comments(count: int) -> list[str]:
    draw = np.random.default_rng(0)
    words, lengths = draw.integers(len(WORDS), size=(count, 12)), draw.integers(2, 13, size=count)
    return [" ".join(WORDS[word] for word in row[:length]) for row, length in zip(words, lengths, strict=True)]


def snorkel(texts: list[str]) -> tuple[np.ndarray, float]:
    """Votes of Snorkel's applier, and seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from snorkel.labeling import LabelingFunction, LFApplier
        from snorkel.preprocess import preprocessor

        pre = preprocessor()(lowered)
        functions = [LabelingFunction(f.__name__, f) for f in PLAIN]
        functions += [LabelingFunction(f.__name__, f, pre=[pre]) for f in LOWERED]
        points = [SimpleNamespace(text=text) for text in texts]
        start = time.perf_counter()
        votes = LFApplier(functions).apply(points, progress_bar=False)
        return votes, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--snorkel", type=int, default=50_000, help="texts for Snorkel")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "rules-speed.md")
    given = parser.parse_args()
    table = pd.DataFrame({"text": comments(given.texts)})
    rows = []
    for processes, count in ((given.processes, given.texts), (1, min(given.texts, 4 * given.snorkel))):
        start = time.perf_counter()
        found = apply_rules(rules(), table[:count], processes=processes)
        seconds = time.perf_counter() - start
        rows.append((f"tutelage, {processes} processes" if processes > 1 else "tutelage, 1 process", count, seconds))
        votes = found.votes.values
    try:
        theirs, seconds = snorkel(table["text"][: given.snorkel].tolist())
        assert (theirs == votes[: given.snorkel]).all(), "the two appliers disagree"
        rows.append(("Snorkel's LFApplier, 1 process", given.snorkel, seconds))
        note = "Votes of both are equal. Snorkel's parallel appliers need Dask or Spark and were not measured."
    except ImportError as error:
        note = f"Snorkel was not measured: {error}."
    body = [[name, f"{count:,}", f"{seconds:.1f}", f"{count / seconds:,.0f}"] for name, count, seconds in rows]
    text = [
        "# Speed of labelling rules",
        "",
        f"- Date: {datetime.now(UTC).date().isoformat()}",
        f"- Hardware: {hardware()}",
        "- Ten rules on made-up comments of 2 to 12 words; the start of the processes is counted.",
        "",
        markdown_table(["", "texts", "seconds", "texts/s"], body),
        "",
        note,
    ]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
