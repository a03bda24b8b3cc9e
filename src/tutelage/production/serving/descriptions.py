"""What the service says of itself: its OpenAPI schema, and a page of it that loads nothing from anywhere."""

from __future__ import annotations

import re
from collections.abc import Collection
from html import escape
from typing import Any

SERVICE = (
    "Scores ads by a model that `tutelage export` wrote. Every address but /, /ping, /docs and /v2/health needs the header "
    "`Authorization: Bearer TOKEN`. No address that a request names is ever fetched."
)
_BINARY = {"schema": {"type": "string", "minLength": 1, "format": "binary"}}
_FACTS: dict[str, dict[str, Any]] = {
    "id": {
        "type": "string",
        "minLength": 1,
        "maxLength": 512,
        "description": "The ad's name: it is decided about once, and another image under it is refused.",
    },
    "headline": {"type": "string", "minLength": 1, "maxLength": 4096},
    "path": {"type": "string", "minLength": 1, "maxLength": 4096, "description": "Where an audit finds the image."},
    "impressions": {"type": "number", "minimum": 0, "maximum": 1e14},
}


def _problem(text: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["error", "detail"],
        "properties": {"error": {"type": "string"}, "detail": {"type": "string"}},
    }
    return {"description": text, "content": {"application/json": {"schema": schema}}}


LOCKED: dict[int | str, dict[str, Any]] = {401: _problem("The token is missing or wrong.")}
NAMED: dict[int | str, dict[str, Any]] = {**LOCKED, 404: _problem("There is no such variant.")}
READY: dict[int | str, dict[str, Any]] = {503: {"description": "The service is going down."}}
REFUSALS: dict[int | str, dict[str, Any]] = {
    **LOCKED,
    400: _problem("The request is malformed; the detail says where."),
    408: _problem("The body did not arrive in time."),
    409: _problem("The id is that of an ad with other content: another image is another ad."),
    413: _problem("The body or the image is too large."),
    415: _problem("The content is of a kind that is not taken."),
    422: _problem("The image cannot be read, or the model cannot compute with the features."),
    429: _problem("Too many requests at once; Retry-After says when to come again."),
    503: _problem("The decision could not be logged, so none was given."),
}
_CONTENT: dict[str, dict[str, Any]] = {
    "image": {"type": "string", "minLength": 1, "format": "byte", "description": "The image file in base64."},
    "text": {"type": "string", "minLength": 1},
    "features": {"type": "array", "minItems": 1, "items": {"type": "number", "minimum": -3e38, "maximum": 3e38}},
}
_RAW = {
    "image": dict.fromkeys(("image/jpeg", "image/png", "image/webp", "application/octet-stream"), _BINARY),
    "text": {"text/plain": {"schema": _CONTENT["text"]}},
    "features": {},
}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def invocations(takes: str) -> dict[str, Any]:
    """Return what is said of ``/invocations`` of a model that takes an image, a text, or features."""

    def fields(content: dict[str, Any]) -> dict[str, Any]:
        facts = {"type": "object", "additionalProperties": False, "required": [takes]}
        return {"schema": {**facts, "properties": {takes: content, **_FACTS}}}

    name = {"name": "x-ad-id", "in": "header", "required": False, "schema": _FACTS["id"]}
    parts = _BINARY["schema"] if takes == "image" else _CONTENT["text"]
    content = {**_RAW[takes], "application/json": fields(_CONTENT[takes])}
    if takes != "features":
        content["multipart/form-data"] = fields(parts)
    return {
        "summary": f"Score one {'list of features' if takes == 'features' else takes} (SageMaker).",
        "responses": REFUSALS,
        "openapi_extra": {**_body(content), "parameters": [name]},
    }


def infer(takes: str, most: int) -> dict[str, Any]:
    """Return what is said of inference requests of at most so many examples."""

    def tensor(name: str, content: dict[str, Any]) -> dict[str, Any]:
        kind = "FP32" if name == "features" else "BYTES"
        shape = "The number of examples" + (", and of features." if name == "features" else ".")
        return {
            "type": "object",
            "required": ["name", "shape", "datatype", "data"],
            "properties": {
                "name": {"type": "string", "enum": [name]},
                "shape": {"type": "array", "items": {"type": "integer"}, "description": shape},
                "datatype": {"type": "string", "enum": [kind]},
                "data": {"type": "array", "minItems": 1, "maxItems": most, "items": content},
            },
        }

    tensors = {"oneOf": [tensor(takes, _CONTENT[takes]), tensor("id", _FACTS["id"])]}
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {"id": _FACTS["id"], "inputs": {"type": "array", "minItems": 1, "maxItems": 2, "items": tensors}},
    }
    return {
        "summary": "Score a batch (Open Inference Protocol, version 2).",
        "responses": {**REFUSALS, **NAMED},
        "openapi_extra": _body({"application/json": {"schema": schema}}),
    }


def lock(schema: dict[str, Any], open_paths: Collection[str]) -> None:
    """Say in an OpenAPI schema which paths need the token."""
    schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, methods in schema["paths"].items():
        for told in methods.values():
            told["security"] = [] if path in open_paths else [{"token": []}]


_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font-family:ui-monospace,monospace;background:rgb(127 127 127/.15);border-radius:4px;padding:.1rem .3rem}"
    "td:first-child,th:first-child{width:5rem}"
    "pre{padding:1rem;overflow-x:auto}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .6rem;"
    "border-bottom:1px solid rgb(127 127 127/.3);vertical-align:top}"
)
_CALLS = """curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: image/png" --data-binary @ad.png localhost:8080/invocations
curl -H "Authorization: Bearer $TOKEN" -F image=@ad.png -F id=ad-17 -F headline="Buy now" localhost:8080/invocations
curl -H "Authorization: Bearer $TOKEN" localhost:8080/v2/models"""


def page(schema: dict[str, Any]) -> str:
    """Return the OpenAPI schema as a page."""
    parts = []
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            codes = "".join(
                f"<tr><td>{escape(str(code))}</td><td>{escape(answer['description'])}</td></tr>"
                for code, answer in sorted(told["responses"].items())
            )
            kinds = ", ".join(told.get("requestBody", {}).get("content", {}))
            body = f"<p>Body: <code>{escape(kinds)}</code></p>" if kinds else ""
            heading = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(told['summary'])}</p>"
            parts.append(f"{heading}{body}<table>{codes}</table>")
    title = f"{escape(schema['info']['title'])} {escape(schema['info']['version'])}"
    description = re.sub("`([^`]*)`", r"<code>\1</code>", escape(schema["info"]["description"]))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}: the service's addresses</title>"
        f"<meta name='viewport' content='width=device-width'><style>{_STYLE}</style><h1>{title}</h1><p>{description} "
        f"<a href='/openapi.json'>OpenAPI schema</a></p><pre>{escape(_CALLS)}</pre>{''.join(parts)}</html>"
    )
