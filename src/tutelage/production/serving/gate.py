"""What every request passes: the token, the metrics, and headers that keep a browser from doing harm."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tutelage.production.serving.refusals import Refused
from tutelage.production.serving.telemetry import Telemetry

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

OPEN = frozenset({"/", "/ping", "/v2", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"})
"""Paths that need no token: they say how to ask, and whether the service lives, and nothing about any ad."""
COUNTED = OPEN | {"/invocations", "/metrics", "/v2/models"}
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
]


class Gate:
    """An ASGI application before another.

    Args:
        app: the other.
        token: what ``Authorization: Bearer`` must hold; None lets everybody in.
        telemetry: where requests are counted.
    """

    def __init__(self, app: App, token: str | None, telemetry: Telemetry) -> None:
        self.app = app
        self.token = None if token is None else token.encode()
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request, or let it pass."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        endpoint = path if path in COUNTED else "/v2/models/*" if path.startswith("/v2/models/") else "other"
        started, status = time.perf_counter(), 500

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        try:
            if path in OPEN or self._known(scope):
                await self.app(scope, receive, sent)
            else:
                await refuse(_stranger(), sent)
        finally:
            self.telemetry.requests.labels(endpoint, status).inc()
            self.telemetry.seconds.labels(endpoint).observe(time.perf_counter() - started)

    def _known(self, scope: Scope) -> bool:
        if self.token is None:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], b"Bearer " + self.token)


def _stranger() -> Refused:
    return Refused(401, "token", "send the service's token: Authorization: Bearer TOKEN", www_authenticate="Bearer")


async def refuse(refused: Refused, send: Any) -> None:
    """Send a refusal."""
    body = json.dumps({"error": refused.reason, "detail": refused.detail}).encode()
    told = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
    headers = [(name.encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
