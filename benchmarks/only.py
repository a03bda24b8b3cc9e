"""Parts of a table by their names."""

from collections.abc import Iterable, Sequence


def check_only(only: Sequence[str], names: Iterable[str], kind: str = "case") -> None:
    """Refuse a name that a table does not have.

    Args:
        only: the names that were asked for.
        names: those that there are.
        kind: what they name.

    Raises:
        ValueError: one that is none of these.
    """
    known = list(names)
    if unknown := sorted(set(only) - set(known)):
        raise ValueError(f"only={unknown}: no such {kind}; there are {known}")
