"""From a request's body to what is to be scored; no address in it is ever fetched."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from tutelage.production.serving.held import Share
from tutelage.production.serving.refusals import Refused

ADDRESS = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]{1,20}://")
_DRAINED = 4  # times the largest body
_TEXTS = {"id": 512, "headline": 4096, "path": 4096}
_FIELDS = {"image", "text", "features", "impressions", *_TEXTS}


@dataclass(frozen=True)
class Example:
    """What one request gives.

    Attributes:
        content: an image file's bytes, a text, or features.
        id: the ad's name; without one no decision is logged.
        headline, path: of the ad, kept with the decision for those who audit it.
        impressions: how often the ad was shown by now.
    """

    content: bytes | str | tuple[float, ...]
    id: str | None = None
    headline: str | None = None
    path: str | None = None
    impressions: float | None = None

    def digest(self) -> str:
        """Return the SHA-256 of the content: of an image's file, of a text in UTF-8, of features in float64."""
        if isinstance(self.content, tuple):
            return sha256(struct.pack(f"<{len(self.content)}d", *self.content)).hexdigest()
        return sha256(self.content.encode() if isinstance(self.content, str) else self.content).hexdigest()


async def read_body(request: Request, most: int, patience: float, share: Share) -> bytes:
    """Return a request's body.

    Args:
        request: the request.
        most: the largest body, in bytes.
        patience: seconds within which it must arrive.
        share: what the request may hold of the memory for bodies.

    Raises:
        Refused: it is larger, does not arrive in time, or no memory is left for it.
    """
    too_large = Refused(413, "body_too_large", f"the body has more than {most} bytes", connection="close")
    refused: Refused | None = None
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(patience):
            async for part in request.stream():
                size += len(part)
                if size > _DRAINED * most:
                    raise too_large
                if size > most:
                    refused = too_large
                elif refused is None and not share.take(len(part)):
                    refused = Refused(
                        429, "overloaded", "too many bodies arrive at once; come again later", retry_after="1"
                    )
                if refused is None:
                    parts.append(part)
                else:  # one who is still sending would not read the answer: what follows is thrown away
                    parts.clear()
                    share.give_back()
    except TimeoutError:
        raise Refused(408, "too_slow", f"the body did not arrive within {patience:g} s", connection="close") from None
    except ClientDisconnect:
        raise Refused(400, "disconnected", "the client went away", connection="close") from None
    if refused is not None:
        raise refused
    return b"".join(parts)


async def read_example(body: bytes, headers: Headers, takes: str) -> Example:
    """Return what a body holds: raw bytes, a multipart form, or JSON with the image in base64.

    Args:
        body: the body.
        headers: the request's; ``content-type`` says which, ``x-ad-id``, in UTF-8, names the ad of a raw body.
        takes: image, text or features; features come as JSON.

    Raises:
        Refused: the body is none of these, or lacks the image or text.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _from_fields(_decoded(read_json(body)), takes)
    if kind == "multipart/form-data" and takes != "features":
        return _from_fields(await _form(body, headers), takes)
    raw = kind.startswith(("image/", "text/")) or kind in ("application/octet-stream", "application/x-image")
    if takes == "features":
        raise Refused(
            415, "content_type", f"content-type is {kind[:80]!r}; this model reads features: send application/json"
        )
    if takes == "text" and kind in ("text/csv", "text/tab-separated-values"):
        raise Refused(
            415,
            "content_type",
            f"content-type is {kind!r}, a table; send each text by itself, or tutelage score the table",
        )
    if not raw:
        raise Refused(
            415,
            "content_type",
            f"content-type is {kind[:80]!r}; send image/*, application/octet-stream, multipart/form-data or application/json"
            + (", or text/plain" if takes == "text" else ""),
        )
    content: bytes | str = body
    if takes == "text":
        try:
            content = body.decode()
        except UnicodeDecodeError as error:
            raise Refused(400, "encoding", f"the text is not UTF-8: {error}") from None
    return _from_fields({takes: content, **_named(headers)}, takes)


def read_json(body: bytes) -> dict[str, Any]:
    """Return the object that a JSON body holds.

    Raises:
        Refused: it is none.
    """
    try:
        found = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "json", f"the body is no JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise Refused(400, "json", "the body is no JSON object")
    return found


def from_base64(text: Any) -> bytes:
    """Return the bytes that a text of base64 stands for.

    Raises:
        Refused: it is none.
    """
    if isinstance(text, str) and ADDRESS.match(text):
        raise Refused(400, "address", "image is an address, and none is ever fetched; send the image itself in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise Refused(400, "base64", f"image is no base64: {str(error)[:200]}") from None


def numbers(given: Any) -> tuple[float, ...]:
    """Return a list of finite numbers as it is kept with an example.

    Raises:
        ValueError: it is none, with the first thing in it that is no such number.
    """
    if not isinstance(given, list):
        raise ValueError(f"features is {_shown(given)}; send a list of numbers")
    for place, each in enumerate(given):
        if isinstance(each, bool) or not isinstance(each, int | float):
            raise ValueError(f"features[{place}] is {_shown(each)}; send a flat list of numbers")
        if not abs(each) < 3e38:  # what single precision holds
            raise ValueError(f"features[{place}] is {_shown(each)}; send finite numbers below 3e38")
    return tuple(map(float, given))


def _shown(value: Any) -> str:
    kinds = {bool: "a boolean", str: "a text", list: "a list", dict: "an object", type(None): "null"}
    shown = "" if value is None or isinstance(value, list | dict) else f" {value!r:.40}"
    return f"{kinds.get(type(value), 'the number')}{shown}"


def checked_text(name: str, value: Any, most: int) -> str:
    """Return a text that can be stored.

    Raises:
        Refused: it is none, empty, too long, or holds half a character.
    """
    if not isinstance(value, str) or not 1 <= len(value.encode(errors="replace")) <= most:
        raise Refused(400, name, f"{name} must be a text of 1 to {most} bytes")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Refused(400, name, f"{name} holds a character that cannot be stored")
    return value


def _named(headers: Headers) -> dict[str, str]:
    """Return the ad's name of a raw body: the header's bytes as UTF-8, in which forms and JSON are, too."""
    if "x-ad-id" not in headers:
        return {}
    try:
        return {"id": headers["x-ad-id"].encode("latin-1").decode()}
    except UnicodeDecodeError as error:
        raise Refused(400, "id", f"the header x-ad-id is not UTF-8: {error}; send the id in UTF-8") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _decoded(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "image": from_base64(fields["image"])} if "image" in fields else fields


async def _form(body: bytes, headers: Headers) -> dict[str, Any]:
    async def stream() -> Any:
        yield body

    fields: dict[str, Any] = {}
    try:
        form = await MultiPartParser(headers, stream(), max_files=1, max_fields=8, max_part_size=65536).parse()
        if not body.rstrip().endswith(b"--"):
            raise MultiPartException("the form ends before its last boundary")
    except MultiPartException as error:
        raise Refused(400, "multipart", error.message) from None
    except Exception as error:  # a parser fed by a stranger may raise anything
        raise Refused(400, "multipart", f"the form cannot be read: {type(error).__name__}") from None
    try:
        for name, value in form.multi_items():
            if name in fields:
                raise Refused(400, "multipart", f"the field {name[:80]!r} comes twice")
            fields[name] = await value.read() if isinstance(value, UploadFile) else value
    finally:
        await form.close()
    if "impressions" in fields:
        try:
            fields["impressions"] = float(fields["impressions"])
        except (TypeError, ValueError):
            raise Refused(400, "impressions", "impressions is no number") from None
    if isinstance(fields.get("image"), str):
        fields["image"] = from_base64(fields["image"])
    return fields


def _from_fields(fields: Mapping[str, Any], takes: str) -> Example:
    if unknown := sorted(set(fields) - _FIELDS):
        named = unknown[0][:80]
        address = named.lower() in ("url", "uri", "image_url", "href")
        why = "; no address is ever fetched: send the image itself" if address else ""
        raise Refused(400, "unknown_field", f"{named!r} is no field; known: {', '.join(sorted(_FIELDS))}{why}")
    content = fields.get(takes)
    if takes == "features" and content is not None:
        try:
            content = numbers(content)
        except ValueError as error:
            raise Refused(400, "features", str(error)) from None
    if not isinstance(content, {"image": bytes, "text": str, "features": tuple}[takes]) or not content:
        one = "list of features, of finite numbers," if takes == "features" else takes
        raise Refused(400, f"no_{takes}", f"the request holds no {takes}; this model takes one {one} in each request")
    told: dict[str, Any] = {}
    for name, most in _TEXTS.items():
        if fields.get(name) is not None:
            told[name] = checked_text(name, fields[name], most)
    count = fields.get("impressions")
    if count is not None:
        if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count < 1e15:
            raise Refused(400, "impressions", "impressions must be a number from 0")
        told["impressions"] = float(count)
    return Example(content, **told)
