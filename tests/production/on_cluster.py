"""Parts of a table scored by a local Ray cluster, in a process that `test_score.py` starts: python on_cluster.py FOLDER OUT."""

import sys
from collections.abc import Iterator
from pathlib import Path

import ray

from tutelage.production.cluster import cluster, scored_by_cluster
from tutelage.production.score import score


def refused(part: int) -> int:
    if part == 7:
        raise ValueError("part 7 is refused")
    return part * part


def main(folder: Path, out: Path) -> None:
    with cluster(None, 2):
        counts = score(folder / "model", folder / "ads.csv", out, part=9, ray=True)
        print(counts.scored, len(counts.left_out))

        taken: list[int] = []

        def parts(count: int) -> Iterator[tuple[str, int]]:
            for part in range(count):
                taken.append(part)
                yield f"part {part}", part

        found = {}
        for key, square in scored_by_cluster(refused, parts(7)):
            found[key] = square
            assert len(taken) <= len(found) + 2 * 2  # two for each of two processors are under way
        assert found == {f"part {part}": part * part for part in range(7)}
        try:
            list(scored_by_cluster(refused, parts(8)))
        except ValueError as error:
            print(error)
    assert not ray.is_initialized()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
