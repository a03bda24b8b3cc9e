"""The service's addresses: the page, SageMaker's contract, the Open Inference Protocol, and what Prometheus reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tutelage import __version__
from tutelage.production.serving import descriptions, protocol_v2
from tutelage.production.serving.gate import OPEN, App, Gate
from tutelage.production.serving.reading import read_body, read_example, read_json
from tutelage.production.serving.refusals import Refused
from tutelage.production.serving.service import Service

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def application(service: Service, token: str | None) -> App:
    """Return the ASGI application of a service.

    Args:
        service: what answers.
        token: what a request must name; None lets everybody in.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running_service():
            yield

    app = FastAPI(
        title="Tutelage",
        version=__version__,
        description=descriptions.SERVICE,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        service.telemetry.refused.labels(error.reason).inc()
        return JSONResponse({"error": error.reason, "detail": error.detail}, error.status, error.headers)

    variant = Path(json_schema_extra={"enum": list(service.deployment.folders)})
    page = files("tutelage.production.serving").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def shown() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": POLICY})

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(descriptions.page(app.openapi()), headers={"content-security-policy": POLICY})

    @app.get("/ping", responses=descriptions.READY, summary="Whether the service is ready (SageMaker).")
    @app.get("/v2/health/ready", responses=descriptions.READY, summary="Whether the service is ready.")
    async def ping() -> JSONResponse:
        return JSONResponse({"ready": not service.draining}, 503 if service.draining else 200)

    @app.post("/invocations", **descriptions.invocations(service.deployment.kind))
    async def invocations(request: Request) -> JSONResponse:
        async with _body(service, request) as body, service.admitted():
            example = await read_example(body, request.headers, service.deployment.kind)
            return JSONResponse(await service.answer(example))

    @app.get(
        "/metrics", response_class=PlainTextResponse, responses=descriptions.LOCKED, summary="What Prometheus reads."
    )
    async def metrics() -> Response:
        return Response(generate_latest(service.telemetry.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v2", summary="What this server speaks.")
    async def server() -> dict[str, Any]:
        return {"name": "tutelage", "version": __version__, "extensions": []}

    @app.get("/v2/health/live", summary="Whether the service lives.")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/models", responses=descriptions.LOCKED, summary="The variants and their models.")
    async def models() -> dict[str, Any]:
        return {"models": {name: _facts(service, name) for name in service.deployment.live}, "default": service.default}

    @app.get("/v2/models/{name}", responses=descriptions.NAMED, summary="What a variant's model takes and gives.")
    async def metadata(name: str = variant) -> dict[str, Any]:
        return protocol_v2.metadata(name, _variant(service, name).model)

    @app.get("/v2/models/{name}/ready", responses=descriptions.NAMED, summary="Whether a variant is ready.")
    async def ready(name: str = variant) -> dict[str, Any]:
        _variant(service, name)
        return {"name": name, "ready": True}

    @app.post("/v2/models/{name}/infer", **descriptions.infer(service.deployment.kind, service.settings.batch))
    async def infer(request: Request, name: str = variant) -> JSONResponse:
        chosen = _variant(service, name)
        async with _body(service, request) as raw:
            body = read_json(raw)
            given = protocol_v2.examples(body, service.deployment.kind, service.settings.batch)
            async with service.admitted(len(given)):
                answers = [service.answer(each, name) for each in given]
                found = []
                for each in await asyncio.gather(*answers, return_exceptions=True):
                    if isinstance(each, BaseException):
                        raise each
                    found.append(each)
                return JSONResponse(protocol_v2.response(body, name, chosen.model, found))

    if token is not None:
        descriptions.lock(app.openapi(), OPEN)
    return Gate(app, token, service.telemetry)


@asynccontextmanager
async def _body(service: Service, request: Request) -> AsyncIterator[bytes]:
    """Inside, a request's body counts among those that are held."""
    settings = service.settings
    with service.held.share() as share:
        yield await read_body(request, settings.max_bytes, settings.patience, share)


def _variant(service: Service, name: str) -> Any:
    if name not in service.deployment.live:
        raise Refused(
            404, "no_variant", f"there is no variant {name[:80]!r}; there are {', '.join(service.deployment.live)}"
        )
    return service.deployment.live[name]


def _facts(service: Service, name: str) -> dict[str, Any]:
    card = service.deployment.live[name].model.card
    told = {key: card[key] for key in ("version", "title", "recipe", "classes", "tutelage", "input")}
    answer = {key: value for key, value in card["answer"].items() if key != "thresholds"}
    return {**told, "answer": answer, "weight": service.weights[name]}
