"""The service as a process: its socket, its token, clients that dawdle, and SIGTERM."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tutelage.production.decisions import DecisionLog
from tutelage.production.serving.app import application
from tutelage.production.serving.service import Service
from tutelage.production.serving.settings import ServiceSettings
from tutelage.production.variants import INCUMBENT

TOKEN = "TUTELAGE_TOKEN"
SHORTEST = 16  # characters of a token
CONNECTIONS = 1000


def chosen_token(given: str | None) -> str | None:
    """Return the token of a service: the given one, TUTELAGE_TOKEN's, or a fresh one; None where it is ``none``.

    Raises:
        ValueError: it is shorter than `SHORTEST`, or cannot stand in a header.
    """
    token = given or os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    if token == "none":
        return None
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        named = TOKEN if token == os.environ.get(TOKEN) else "--token"  # its value is nobody's business
        raise ValueError(
            f"{named} has {len(token)} characters and must have at least {SHORTEST}, of printable ASCII without spaces: leave "
            "it out, and a fresh one is made and printed; 'none' lets everybody in"
        )
    return token


def start(
    model: Path,
    challengers: Mapping[str, Path],
    weights: Mapping[str, float],
    host: str,
    port: int,
    token: str | None,
    decisions: str,
    settings: ServiceSettings,
) -> None:
    """Serve exported models until SIGTERM or Ctrl-C; arguments as of ``tutelage serve``.

    Raises:
        FileNotFoundError, ValueError: see `Service`, `chosen_token` and `DecisionLog`.
        ConnectionError: the database of decisions cannot be reached.
    """
    folders = {INCUMBENT: model, **challengers}
    shares = dict.fromkeys(folders, 0.0) | dict(weights or {INCUMBENT: 1.0})
    word = chosen_token(token)
    service = Service(folders, shares, settings)
    if decisions != "none":  # opened last, so that a mistake above leaves no file
        service.log = DecisionLog(decisions)
    run(service, host, port, word)


def run(service: Service, host: str, port: int, token: str | None) -> None:
    """Serve until SIGTERM or Ctrl-C; then take no new request, and answer every one that has been taken."""
    settings = service.settings

    class Impatient(H11Protocol):
        """Closes a connection on which a request's headers do not arrive in time."""

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self._wait()
            else:
                self._done()

        def connection_lost(self, exc: Exception | None) -> None:
            self._done()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self._deadline is None:
                self._deadline = self.loop.call_later(settings.patience, self.transport.close)

        def _done(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    where = f"http://{host if host not in ('0.0.0.0', '::') else 'localhost'}:{port}/"
    print(f"{where}#token={token}" if token else f"{where} (no token is asked for)", flush=True)
    config = uvicorn.Config(
        application(service, token),
        host=host,
        port=port,
        http=Impatient,
        ws="none",
        access_log=False,
        log_level="info",
        server_header=False,
        lifespan="on",
        backlog=2048,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.drain),
    )
    uvicorn.Server(config).run()
