"""The page on which moderators give their verdicts."""

from __future__ import annotations

import hmac
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from pydantic import BaseModel

from tutelage.decoding import Limits, UnreadableImage, locate, preview, read_bytes
from tutelage.production.database import Database
from tutelage.production.serving.running import chosen_token
from tutelage.production.verdicts import Desk, Item, Taken, Verdict

LONGEST = 1600  # pixels of an image's side
MOST = 4096  # bytes of a request's body
COOKIE = "tutelage_audit"
_POLICY = "; ".join(
    ("default-src 'none'", "img-src 'self' data:", *(f"{kind}-src 'self'" for kind in ("style", "script", "connect")))
)
_KINDS = {"audit.css": "text/css", "audit.js": "text/javascript"}


class Given(BaseModel):
    """A verdict on an item."""

    item: int
    verdict: Verdict


def moderator(x_moderator: Annotated[str, Header()] = "") -> str:
    """Return who judges, as the page says in a header, percent-encoded."""
    name = unquote(x_moderator).strip()
    if not 0 < len(name) <= 60 or not name.isprintable():
        raise HTTPException(422, "X-Moderator: give the moderator's name, of 1 to 60 characters")
    return name


Who = Annotated[str, Depends(moderator)]


def application(database: Database, images: Path, token: str | None) -> FastAPI:
    """Return the service: a page, the next item, verdicts, undo, and images from under one folder.

    Whoever opens ``/?token=...`` gets a cookie that no script can read, and that no other site's page can send with a verdict;
    without it nothing is answered.

    Args:
        database: with audits.
        images: folder that the items' images lie under.
        token: what a moderator must know; None lets everybody in.
    """
    service = FastAPI(title="Tutelage audit", openapi_url=None)
    desk = Desk(database)

    @service.middleware("http")
    async def guarded(request: Request, follow: Any) -> Response:
        sent = request.headers.get("content-length", "0" if request.method in ("GET", "HEAD") else "")
        small = sent.isdecimal() and int(sent) <= MOST and "transfer-encoding" not in request.headers
        answer: Response = await follow(request) if small else PlainTextResponse(f"send at most {MOST} bytes", 413)
        answer.headers["Content-Security-Policy"] = _POLICY
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer

    def right(told: str | None) -> bool:
        return token is None or hmac.compare_digest((told or "").encode(), token.encode())

    def known(tutelage_audit: Annotated[str, Cookie()] = "") -> None:
        if not right(tutelage_audit):
            raise HTTPException(401, "open the link that tutelage audit serve has printed")

    def answer(name: str, item: Item | None, **more: Any) -> dict[str, Any]:
        return {"item": item and asdict(item), "progress": asdict(desk.progress(name)), **more}

    inside: dict[str, Any] = {"dependencies": [Depends(known)]}

    @service.get("/")
    def page(request: Request, tutelage_audit: Annotated[str, Cookie()] = "") -> Response:
        given = request.query_params.get("token")
        if given is not None and right(given):
            entry = RedirectResponse("./", 303)
            # Lax, because the link may stand in a web page: a browser that comes from there sends no strict cookie.
            entry.set_cookie(COOKIE, given, httponly=True, samesite="lax", secure=request.url.scheme == "https")
            return entry
        if given is not None or not right(tutelage_audit):
            return PlainTextResponse("Open the link that tutelage audit serve has printed.", 401)
        return Response(_file("audit.html"), media_type="text/html; charset=utf-8")

    @service.get("/{name}.{kind}")
    def part(name: str, kind: str) -> Response:
        if f"{name}.{kind}" not in _KINDS:
            raise HTTPException(404, "there is no such page")
        return Response(_file(f"{name}.{kind}"), media_type=_KINDS[f"{name}.{kind}"])

    @service.post("/next", **inside)
    def following(name: Who) -> dict[str, Any]:
        return answer(name, desk.next(name))

    @service.post("/verdict", **inside)
    def verdict(given: Given, name: Who) -> dict[str, Any]:
        try:
            desk.give(given.item, name, given.verdict)
        except Taken as error:
            raise HTTPException(409, answer(name, desk.next(name), message=str(error))) from error
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return answer(name, desk.next(name))

    @service.post("/undo", **inside)
    def undo(name: Who) -> dict[str, Any]:
        item = desk.undo(name)
        return answer(name, item or desk.next(name), **({} if item else {"message": "There is nothing to take back."}))

    @service.get("/items/{item}/image", **inside)
    def image(item: int) -> Response:
        path = desk.image_of(item)
        if path is None:
            raise HTTPException(404, "no image was recorded with the decision")
        try:
            picture = preview(read_bytes(locate(images, path), Limits()), LONGEST)
        except UnreadableImage as error:
            detail = "missing: it is not in the folder of images" if error.reason == "missing" else error.reason
            raise HTTPException(404, detail) from error
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    return service


def serve(database: Database, images: Path, host: str, port: int, token: str | None) -> None:
    """Serve the page until the process is told to stop, and print its link; the token is chosen as by `tutelage serve`.

    Raises:
        FileNotFoundError: there is no such folder of images.
        ValueError: a token that is too short.
    """
    import uvicorn

    if not images.is_dir():
        raise FileNotFoundError(f"there is no folder {images}: give the one that the decisions' images lie under")
    word = chosen_token(token)
    shown = f"[{host}]" if ":" in host else host
    link = f"http://{shown}:{port}/" + (f"?token={quote(word)}" if word else " (no token is asked for)")
    print(f"moderators open {link}", flush=True)
    uvicorn.run(application(database, images, word), host=host, port=port, log_level="warning", server_header=False)


def _file(name: str) -> bytes:
    return (files(__package__) / "page" / name).read_bytes()
