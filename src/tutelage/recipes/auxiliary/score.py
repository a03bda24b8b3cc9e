"""What a run's model says of new examples."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import torch

from tutelage.data import TensorData
from tutelage.data.label_columns import read_label_columns
from tutelage.data.manifest import Columns
from tutelage.data.table import ImageTable
from tutelage.models import load_multi_head
from tutelage.recipes.auxiliary.judgement import Answer
from tutelage.recipes.auxiliary.settings import TaskSpec
from tutelage.training import predict

UNKNOWN = "unknown_value"


def score_run(run: Path, manifest: Path, out: Path, *, fpr: float | None, columns: Columns) -> str:
    """Write what a run's model answers to the primary task for the examples of a table, and return a sentence about it.

    Args:
        run: a run's folder.
        manifest: a table as the run was made from, without labels: images by their paths, or the fields by their names.
        out: a .parquet or .csv file: id and answer. What could not be read is listed beside it.
        fpr: of no use here.
        columns: the table's own names of ``id`` and ``image``.

    Raises:
        FileNotFoundError, ValueError: no finished run, a file name without a known ending, a table that lacks a column, or a
            model of maps.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"out={str(out)!r} must end in .parquet or .csv")
    if fpr is not None:
        raise ValueError(f"fpr={fpr}: this run answers a task and decides at no false-positive rate; leave fpr out")
    model, facts = load_multi_head(run / "model")
    task = TaskSpec(**facts["task"])
    if task.kind == "segmentation":
        raise ValueError(
            f"{run} answers with a map for each image, which no table holds; call tutelage.models.load_multi_head"
        )
    fields, size = (
        list(facts["values"]),
        int(json.loads((run / "model" / "config.json").read_text())["multi_head"]["image_size"]),
    )
    found = read_label_columns(manifest, fields=fields, image=columns.image, id=columns.id, size=size)
    if found.fields is None:
        assert found.images is not None
        table = ImageTable(found.images, pd.DataFrame({"id": found.id, "label": -1, "split": "unlabelled"}))
        examples, ids = table.subset(torch.arange(len(table))), found.id
    else:
        coded, known = [], torch.ones(len(found), dtype=torch.bool)
        for place, (name, values) in enumerate(facts["values"].items()):
            codes = {value: code for code, value in enumerate(values)}
            own = torch.tensor([codes.get(value, -1) for value in found.values[name]])[found.fields[:, place]]
            coded.append(own)
            known &= own >= 0
        for row in (~known).nonzero().squeeze(1).tolist():
            found.problems.add(found.id[row], UNKNOWN, "a field has a value that the run has not seen")
        examples = TensorData(input=torch.stack(coded, 1)[known])  # type: ignore[assignment]
        ids = [found.id[row] for row in known.nonzero().squeeze(1).tolist()]
    found.problems.require(len(ids), 1)
    answers, _ = predict(Answer(model, task), examples)
    assert isinstance(answers, torch.Tensor)
    values = facts["classes"]
    listed = answers.tolist() if task.kind == "regression" else [values[int(a)] if values else int(a) for a in answers]
    result = pd.DataFrame({"id": ids, "answer": listed})
    result.to_parquet(out, index=False) if out.suffix == ".parquet" else result.to_csv(out, index=False)
    found.problems.write(out.parent, f"{out.stem}-problems.csv")
    return f"{len(result)} examples answered ({task.name}); {found.problems.summary()}. Written to {out}"
