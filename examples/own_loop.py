"""Learned loss weights in a plain PyTorch loop: digits, 40 % of whose labels are wrong, and a teacher.

    python examples/own_loop.py

AMAL learns for each example how far to listen to its label and how far to the teacher; the script prints how well its weights
tell the wrong labels from the right ones.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from tutelage import AMAL, CrossEntropy, Distillation, Objective, TensorData, endless
from tutelage.metrics import auroc


def main(steps: int = 400, every: int = 10, seed: int = 0) -> float:
    """Train, adapt every so many steps, and return the AUROC with which the weights find the wrong labels."""
    torch.manual_seed(seed)
    source = load_digits()
    images = torch.tensor(source.images, dtype=torch.float32).flatten(1) / 16
    truth = torch.tensor(source.target)
    order = torch.randperm(len(images))
    train_rows, held_out_rows = order[:1000], order[1000:1300]
    wrong = torch.rand(1000) < 0.4
    shifted = (truth[train_rows] + torch.randint(1, 10, (1000,))) % 10
    train = TensorData(input=images[train_rows], label=torch.where(wrong, shifted, truth[train_rows]))
    held_out = TensorData(input=images[held_out_rows], label=truth[held_out_rows])

    teacher = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for _ in range(150):  # stopped early, before it learns the wrong labels
        batch = train.batch(torch.randint(0, 1000, (64,)).tolist())
        nn.functional.cross_entropy(teacher(batch["input"]), batch["label"]).backward()
        optimizer.step()
        optimizer.zero_grad()

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    objective = Objective(model, [CrossEntropy(), Distillation(teacher, temperature=4)])
    weighting = AMAL(num_examples=len(train), num_signals=2)
    judges = endless(DataLoader(held_out, batch_size=100, shuffle=True))
    for step in range(steps):
        batch = train.batch(torch.randint(0, 1000, (64,)).tolist())
        weighting.backward(objective(batch), batch, model)
        optimizer.step()
        optimizer.zero_grad()
        if step % every == 0:
            weighting.adapt(objective, batch, next(judges), optimizer)

    label_NK = weighting.weights.cpu()
    doubt = (label_NK[:, 1] - label_NK[:, 0]).numpy()
    return auroc(doubt, wrong.long().numpy())


if __name__ == "__main__":
    print(f"the weights find wrong labels with AUROC {main():.3f}")
