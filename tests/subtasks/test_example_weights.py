"""An example of weight 2 is one that is there twice, and one of weight 0 is not there: in every loss of the labels."""

from dataclasses import replace

import pocket
import pytest
import tiny
import torch
from test_student import ROWS, StudentSettings, a_lesson, assert_stepped, cross_entropy, outputs_and_lesson, taught

from tutelage.data import TensorData
from tutelage.data.indexed import batch_of
from tutelage.recipes.moderation import pipeline
from tutelage.signals import CrossEntropy, Objective
from tutelage.subtasks import SpecialistSettings, specialists, train_specialists, with_example_weights
from tutelage.training import Log

TIMES = torch.tensor([2, 0, 1, 3])


def test_by_hand():
    """Losses log 2, log 4 and 0: twice the first, none of the second, once the third."""
    logits = torch.tensor([[0.0, 0.0], [0.0, torch.tensor(3.0).log()], [50.0, 0.0]])
    examples = TensorData(input=logits, label=torch.tensor([1, 0, 0]))
    data, signals = with_example_weights(examples, [CrossEntropy()], torch.tensor([2.0, 0.0, 1.0]), torch.arange(3))
    losses = Objective(torch.nn.Identity(), signals)(batch_of(data, range(3)))
    assert torch.allclose(losses.mean(), 2 * torch.tensor(2.0).log() / 3)
    again, _ = with_example_weights(examples, [CrossEntropy()], torch.tensor([50.0, 0.0, 25.0]), torch.arange(3))
    assert torch.equal(batch_of(again, range(3))["example_weight"], batch_of(data, range(3))["example_weight"])
    given, alone = with_example_weights(examples, [CrossEntropy()], None, torch.arange(3))
    assert (given, len(alone)) == (examples, 1)
    with pytest.raises(ValueError, match="weight is 0 for all of 2 training examples"):
        with_example_weights(examples, [CrossEntropy()], torch.tensor([0.0, 0.0, 1.0]), torch.arange(2))


@pytest.fixture(scope="module")
def images():
    return pocket.posters()


@pytest.mark.parametrize("weighting", [None, "equal"])
def test_a_students_step_is_that_with_copies(images, weighting):
    weight = TIMES.repeat(len(images))[: len(images)]
    lesson = replace(a_lesson(images, substitute=True), weight=weight.double() * 7)
    settings = StudentSettings(weight=1.5, curriculum="random")
    before, after, _ = taught(images, lesson, settings, weighting=weighting and pipeline.Equal())
    outputs, smooth = outputs_and_lesson(images, before, lesson)
    teacher, substitute = (
        each[ROWS].softmax(1).nan_to_num(0.0) for each in (lesson.teacher_logits, lesson.substitute_logits)
    )
    loss = cross_entropy(outputs["cls"], smooth) + cross_entropy(outputs["cls"], substitute)
    loss += 1.5 * cross_entropy(outputs["dist"], teacher)
    assert_stepped(before, after, loss.repeat_interleave(weight[ROWS]).mean())


def what_is_fitted(monkeypatch, module):
    """Let nothing be trained; return the losses that would have been, by example, and the examples' rows."""
    found = {}

    def fit(model, data, *, signals, **_):
        batch = batch_of(data, range(len(data)))
        with torch.no_grad():
            found["losses"] = Objective(model.eval(), signals)(batch).sum(1)
        found["rows"] = batch["index"]

    monkeypatch.setattr(module, "fit", fit)
    return found


def test_specialists_and_plain_fine_tuning_learn_from_copies(monkeypatch, tmp_path):
    task = tiny.task()
    found = what_is_fitted(monkeypatch, specialists)
    train, count = task.rows("train"), 2
    subtask = torch.where(task.labels == 0, torch.arange(len(task.labels)) % count, -1)
    weight = TIMES.repeat(len(task.labels))[: len(task.labels)]

    def specialist_losses(given):
        train_specialists(
            lambda outputs: pocket.network(outputs), task.images.subset, subtask, task.labels, train, None,
            SpecialistSettings(sharing="trunk", epochs=1, select=False), pocket.plan(), count=count, weight=given,
        )  # fmt: skip
        return found["losses"]

    plain, weighed = specialist_losses(None), specialist_losses(weight.double())
    assert torch.allclose(weighed.mean(), plain.repeat_interleave(weight[found["rows"]]).mean())

    found = what_is_fitted(monkeypatch, pipeline)

    def label_losses():
        settings = tiny.settings()
        made = pipeline.Pipeline(task, settings, tmp_path / task.fingerprint(), Log(None, quiet=True))
        made.fine_tuned(settings.student)
        return found["losses"]

    plain = label_losses()
    task.table["weight"] = weight.double().numpy()
    weighed = label_losses()
    assert torch.allclose(weighed.mean(), plain.repeat_interleave(weight[found["rows"]]).mean())
