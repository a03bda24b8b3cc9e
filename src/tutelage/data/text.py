"""Features of texts: TF-IDF of words or characters by default, a sentence encoder where one is asked for, or given numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from tutelage.checks import check
from tutelage.data.indexed import Batched
from tutelage.files import read_json, save_tensors

CHARACTERS = (1, 3)
"""The shortest and longest run of characters that is counted."""


@dataclass(frozen=True)
class FeatureSettings:
    """What a text is turned into.

    Args:
        kind: tfidf (of words; of characters where words do not repeat, as in a language without spaces), chars (TF-IDF of runs
            of one to three characters), or sentences (a sentence-transformers model, which needs that package).
        ngrams: The shortest and longest run of words that TF-IDF counts.
        min_count: A run of words must occur in so many texts.
        max_features: The most frequent ones are kept, so many.
        encoder: A sentence-transformers model, by name or folder.
    """

    kind: Literal["tfidf", "chars", "sentences"] = "tfidf"
    ngrams: tuple[int, int] = (1, 2)
    min_count: int = 2
    max_features: int = 5000
    encoder: str = "all-MiniLM-L6-v2"

    def __post_init__(self) -> None:
        """Check the values that would otherwise fail late."""
        check(self, ngrams="[1, 10]", min_count="[1, inf)", max_features="[1, inf)")
        if self.ngrams[0] > self.ngrams[1]:
            raise ValueError(f"ngrams={self.ngrams} must be (shortest, longest)")


class Features:
    """A fitted map from texts to vectors, saved as plain JSON and safetensors.

    Args:
        settings: which.
        fetch: whether a sentence encoder may be fetched by its name, or be a folder; otherwise only one that was fetched
            before is used.
        vocabulary: TF-IDF's runs of words, in the order of the columns.
        idf: their inverse document frequencies.
    """

    def __init__(
        self, settings: FeatureSettings, vocabulary: Sequence[str] = (), idf: Any = None, *, fetch: bool = True
    ) -> None:
        self.settings = settings
        self.fetch = fetch
        self.vocabulary = list(vocabulary)
        self.idf = idf

    @classmethod
    def fit(cls, texts: Sequence[str], settings: FeatureSettings) -> Features:
        """Learn a vocabulary from texts; a sentence encoder learns nothing.

        Where fewer than half of the texts have a word of the vocabulary, words tell too little, and characters are counted.

        Raises:
            ValueError: neither a word nor a run of characters occurs often enough.
        """
        if settings.kind == "sentences":
            return cls(settings)
        counter = _vectorizer(settings, min_df=settings.min_count, max_features=settings.max_features)
        try:
            counter.fit(texts)
        except ValueError as error:  # scikit-learn says: empty vocabulary, and names settings of its own
            if settings.kind == "tfidf":
                return cls.fit(texts, replace(settings, kind="chars"))
            raise ValueError(
                f"neither a word nor a run of characters occurs in features.min_count={settings.min_count} of {len(texts)} "
                "texts; give a lower one, more texts, or vectors of your own (--vectors)"
            ) from error
        if settings.kind == "tfidf" and (counter.transform(texts).getnnz(axis=1) > 0).mean() < 0.5:
            return cls.fit(texts, replace(settings, kind="chars"))
        return cls(settings, counter.get_feature_names_out().tolist(), counter.idf_)

    def __call__(self, texts: Sequence[str]) -> Any:
        """Return the vectors, (N, D) float32: a sparse matrix from TF-IDF, an array from a sentence encoder."""
        if self.settings.kind == "sentences":
            encoder = _encoder(self.settings.encoder, self.fetch)
            return encoder.encode(list(texts), convert_to_numpy=True).astype(np.float32)
        counter = _vectorizer(self.settings, vocabulary=self.vocabulary)
        counter.idf_ = self.idf
        return counter.transform(texts).astype(np.float32).tocsr()

    def save(self, folder: Path) -> None:
        """Write ``features.json`` and, for TF-IDF, ``features.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {"settings": asdict(self.settings), "vocabulary": self.vocabulary}
        (folder / "features.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
        if self.idf is not None:
            save_tensors({"idf": torch.as_tensor(self.idf)}, folder / "features.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Features:
        """Read what `save` wrote, of a stranger perhaps: what it names is not fetched, and no path in it is followed.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the files are damaged or do not belong together.
        """
        path = folder / "features.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; is {folder} the model/ folder of a finished run?")
        weights = folder / "features.safetensors"
        facts = read_json(path)
        try:
            settings = FeatureSettings(**{**facts["settings"], "ngrams": tuple(facts["settings"]["ngrams"])})
            vocabulary = facts["vocabulary"]
            counted = settings.kind != "sentences"
            idf = load_file(weights)["idf"] if counted else np.empty(0)
            if idf.shape != (len(vocabulary),) or not all(isinstance(word, str) for word in vocabulary):
                raise ValueError(f"{len(vocabulary)} words and numbers of shape {idf.shape}")
        except Exception as error:  # a file of a stranger fails in many ways
            raise ValueError(f"{path} and {weights.name} describe no features: {error}") from error
        return cls(settings, vocabulary, idf if counted else None, fetch=False)


def _vectorizer(settings: FeatureSettings, **options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if settings.kind == "chars":
        return TfidfVectorizer(analyzer="char", ngram_range=CHARACTERS, sublinear_tf=True, **options)
    return TfidfVectorizer(ngram_range=settings.ngrams, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", **options)


def _encoder(name: str, fetch: bool) -> Any:
    if not fetch and (not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) or Path(name).exists()):
        raise ValueError(
            f"encoder={name!r} names a path or an address, which a run's folder may not; make the vectors yourself and "
            "give them to predict: vectors="
        )
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ImportError(
            "features.kind='sentences' needs the package sentence-transformers: pip install 'tutelage[sentences]'"
        ) from None
    try:
        return SentenceTransformer(
            name, trust_remote_code=False, local_files_only=not fetch, model_kwargs={"use_safetensors": True}
        )
    except OSError as error:
        hint = "" if fetch else "; nothing is fetched because a run's folder names it: fetch it yourself first"
        raise FileNotFoundError(f"encoder={name!r} could not be loaded{hint} ({error})") from error


class FeatureRows(Batched):
    """Rows of features as a map-style data set, made dense batch by batch.

    Args:
        features: (N, D), a SciPy sparse matrix or an array.
        rows: the rows that belong to it, by default all; ``index`` is the row.
        columns: further tensors with one row for every row of ``features``; those named in ``beside`` stand in ``input``,
            after the features.
        beside: names of columns.
    """

    def __init__(
        self, features: Any, rows: Tensor | None = None, *, beside: Sequence[str] = (), **columns: Tensor
    ) -> None:
        self.features = features
        self.index = torch.arange(features.shape[0]) if rows is None else rows
        self.beside = tuple(beside)
        self.columns = columns

    def subset(self, rows: Tensor, **columns: Tensor) -> FeatureRows:
        """Return these rows, with columns replaced or added."""
        return FeatureRows(self.features, rows, beside=self.beside, **{**self.columns, **columns})

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return a whole batch at once."""
        rows = self.index[torch.as_tensor(places, dtype=torch.int64)]
        found = self.features[rows.numpy()]
        dense = torch.from_numpy(np.ascontiguousarray(found.toarray() if hasattr(found, "toarray") else found))
        columns = {name: column[rows] for name, column in self.columns.items()}
        beside = [columns[name].to(dense.dtype) for name in self.beside]
        return {"index": rows, "input": torch.cat([dense, *beside], 1), **columns}
