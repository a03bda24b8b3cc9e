"""AMAL in a loop of Hugging Face's Accelerate: digits, 40 % of whose labels are wrong, and a teacher.

    python examples/accelerate_loop.py
    accelerate launch examples/accelerate_loop.py     # several devices: the table of weights is shared out among them

One line differs from any other Accelerate loop: `weighting.backward(losses, batch, model)` in the place of
`accelerator.backward(loss)`.
"""

import itertools

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from tutelage import AMAL, CrossEntropy, Distillation, Objective
from tutelage.data import TensorData, endless, handwritten_digits, symmetric_noise
from tutelage.metrics import auroc


def main(steps: int = 400) -> float:
    """Train, and return the AUROC with which the weights find the wrong labels."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    digits = handwritten_digits()
    order = torch.randperm(1300, generator=torch.Generator().manual_seed(0))
    train_rows, held_out_rows = order[:1000], order[1000:]
    pixels = digits.images.gather(range(len(digits)))[:, 0].flatten(1) / 255
    noisy = symmetric_noise(digits.labels[train_rows], 0.4, 10, torch.Generator().manual_seed(1))
    train = TensorData(input=pixels[train_rows], label=noisy.labels)
    held_out = TensorData(input=pixels[held_out_rows], label=digits.labels[held_out_rows])

    model, teacher = perceptron(), taught(train)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(train, batch_size=50, shuffle=True)
    judges = DataLoader(held_out, batch_size=100, shuffle=True)
    model, optimizer, loader, judges = accelerator.prepare(model, optimizer, loader, judges)
    objective = Objective(model, [CrossEntropy(), Distillation(teacher, temperature=4)]).to(accelerator.device)
    weighting = AMAL(num_examples=len(train), num_signals=2).to(accelerator.device)
    held_out_batches = endless(judges)
    for step, batch in enumerate(itertools.islice(endless(loader), steps)):
        weighting.backward(objective(batch), batch, model)
        optimizer.step()
        optimizer.zero_grad()
        if step % 4 == 3:
            weighting.adapt(objective, batch, next(held_out_batches), optimizer.optimizer)

    label, by_teacher = weighting.weights.cpu().unbind(1)
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
