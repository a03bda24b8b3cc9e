from itertools import product

import pytest
import torch
from sklearn.cluster import KMeans

from tutelage.metrics import normalised_mutual_information
from tutelage.subtasks import kmeans
from tutelage.subtasks.kmeans import _lloyd


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inertia(x_ND: torch.Tensor, labels_N: torch.Tensor) -> float:
    groups = [x_ND[labels_N == k] for k in labels_N.unique()]
    return sum(float((group - group.mean(0)).square().sum()) for group in groups)


@pytest.mark.parametrize("seed", range(3))
def test_lloyds_algorithm_is_scikit_learns(seed):
    x_ND = normal(80, 3, seed=seed)
    starts = x_ND[:5]
    theirs = KMeans(5, init=starts.numpy(), n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(x_ND.numpy())
    distance_NK = _lloyd(x_ND, starts, 300)
    assert distance_NK.argmin(1).tolist() == theirs.labels_.tolist()
    assert float(distance_NK.min(1).values.sum()) == pytest.approx(theirs.inertia_, rel=1e-9)
    assert torch.allclose(distance_NK.sqrt(), torch.from_numpy(theirs.transform(x_ND.numpy())))


@pytest.mark.parametrize("clusters", [2, 3])
def test_the_best_partition_by_brute_force(clusters):
    x_ND = normal(8, 2, seed=clusters)
    standard_ND = (x_ND - x_ND.mean(0)) / x_ND.std(0, correction=0)
    best = min(inertia(standard_ND, torch.tensor(labels)) for labels in product(range(clusters), repeat=len(x_ND)))
    labels, distance_NK = kmeans(x_ND, clusters, restarts=20)
    assert inertia(standard_ND, labels) == pytest.approx(best, rel=1e-9)
    assert 2 * float(distance_NK.min(1).values.sum()) == pytest.approx(best, rel=0.01)  # but for the 1e-3 in the scale


def test_clusters_far_apart_are_found_in_any_units():
    truth = torch.arange(120) % 4
    x_ND = normal(4, 5, seed=1)[truth] * 20 + normal(120, 5)
    units = torch.tensor([1e-2, 1.0, 1e3, 10.0, 1.0], dtype=torch.float64)
    for features in (x_ND, x_ND * units + 7, x_ND.float()):
        labels, distance_NK = kmeans(features, 4)
        assert normalised_mutual_information(truth.numpy(), labels.numpy()) == pytest.approx(1)
        assert torch.equal(labels, distance_NK.argmin(1))


def test_a_function_of_the_seed():
    x_ND = normal(60, 2)
    assert torch.equal(kmeans(x_ND, 6, seed=3)[1], kmeans(x_ND, 6, seed=3)[1])
    assert not torch.equal(kmeans(x_ND, 6, seed=3, restarts=1)[1], kmeans(x_ND, 6, seed=4, restarts=1)[1])


def test_the_ends_of_the_range():
    one_each, distance_NK = kmeans(normal(6, 2), 6)
    assert one_each.sort().values.tolist() == list(range(6))
    assert distance_NK.min(1).values.max() < 1e-12
    for features in (torch.ones(5, 2), normal(5, 1).expand(5, 3)):
        assert torch.isfinite(kmeans(features, 2)[1]).all()  # all alike, and dependent columns
    assert kmeans(normal(1, 3), 1)[0].tolist() == [0]
    with pytest.raises(ValueError, match="clusters=3 for 2 examples"):
        kmeans(normal(2, 2), 3)
