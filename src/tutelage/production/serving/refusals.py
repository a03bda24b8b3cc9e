"""What is refused, with the status that says why."""

from __future__ import annotations

from tutelage.decoding import UnreadableImage

_STATUS = {"format": 415, "too_many_bytes": 413, "too_many_pixels": 413}


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP's.
        reason: a stable code to count by.
        detail: a sentence for people.
        headers: further headers of the response.
    """

    def __init__(self, status: int, reason: str, detail: str, **headers: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def unreadable(error: UnreadableImage) -> Refused:
    """Return the refusal of an image."""
    return Refused(_STATUS.get(error.reason, 422), error.reason, error.detail)
