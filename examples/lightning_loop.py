"""AMAL in a LightningModule, with manual optimisation: digits, 40 % of whose labels are wrong, and a teacher.

    python examples/lightning_loop.py

The weights are part of the module, so that Lightning moves, saves and restores them with the model.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tutelage import AMAL, CrossEntropy, Distillation, Objective, _vision
from tutelage.data import TensorData, endless, handwritten_digits, symmetric_noise
from tutelage.metrics import auroc

_vision.transforms()  # Lightning imports torchvision: this makes that work also beside a torch of another kind than its own
import pytorch_lightning as lightning  # noqa: E402


class Student(lightning.LightningModule):
    """A student that listens to its label and its teacher as far as each helps on held-out data."""

    def __init__(self, model: nn.Module, teacher: nn.Module, num_examples: int, held_out: DataLoader, every: int = 4):
        super().__init__()
        self.automatic_optimization = False
        self.objective = Objective(model, [CrossEntropy(), Distillation(teacher, temperature=4)])
        self.weighting = AMAL(num_examples, num_signals=2)
        self.held_out = endless(held_out)
        self.every = every

    def training_step(self, batch: dict[str, Tensor], number: int) -> None:
        optimizer: Any = self.optimizers()
        losses = self.objective(batch)
        self.weighting.backward(losses, batch, self.objective.model)
        optimizer.step()
        optimizer.zero_grad()
        if self.global_step % self.every == 0:
            held_out = self.transfer_batch_to_device(next(self.held_out), self.device, 0)
            self.weighting.adapt(self.objective, batch, held_out, optimizer.optimizer)
        self.log_dict(dict(zip(self.objective.names, losses.detach().mean(0), strict=True)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.objective.model.parameters(), lr=0.1, momentum=0.9)


def main(steps: int = 400) -> float:
    """Train, and return the AUROC with which the weights find the wrong labels."""
    torch.manual_seed(0)
    digits = handwritten_digits()
    order = torch.randperm(1300, generator=torch.Generator().manual_seed(0))
    train_rows, held_out_rows = order[:1000], order[1000:]
    pixels = digits.images.gather(range(len(digits)))[:, 0].flatten(1) / 255
    noisy = symmetric_noise(digits.labels[train_rows], 0.4, 10, torch.Generator().manual_seed(1))
    train = TensorData(input=pixels[train_rows], label=noisy.labels)
    held_out = TensorData(input=pixels[held_out_rows], label=digits.labels[held_out_rows])

    judges = DataLoader(held_out, batch_size=100, shuffle=True)
    student = Student(perceptron(), taught(train), len(train), judges)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_steps=steps, max_epochs=-1, devices=1, **quiet)
    trainer.fit(student, DataLoader(train, batch_size=50, shuffle=True))

    label, by_teacher = student.weighting.weights.cpu().unbind(1)
    return auroc((by_teacher - label).numpy(), noisy.wrong.long().numpy())


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def taught(train: TensorData, steps: int = 150) -> nn.Module:
    """A teacher that is stopped early, before it learns the wrong labels."""
    teacher = perceptron()
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = train.batch(torch.randint(0, len(train), (64,)).tolist())
        nn.functional.cross_entropy(teacher(batch["input"]), batch["label"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return teacher


if __name__ == "__main__":
    print(f"the weights find wrong labels with AUROC {main():.3f}")
