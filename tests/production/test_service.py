"""The service from outside: every way to ask, every way to ask wrongly, and what happens in between."""

import asyncio
import base64
import hashlib
import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import sync_playwright
from served import PATIENCE, TOKEN, Served, write_model

from tutelage.production.decisions import DecisionLog
from tutelage.production.exported import ExportedModel
from tutelage.production.serving.__main__ import arguments
from tutelage.production.serving.app import application
from tutelage.production.serving.running import chosen_token
from tutelage.production.serving.service import Service
from tutelage.production.serving.settings import ServiceSettings

DARK = hostile.encoded(Image.new("RGB", (32, 32), (40, 40, 40)), "PNG")
BRIGHT = hostile.encoded(Image.new("RGB", (32, 32), (220, 220, 220)), "PNG")
PHOTOGRAPH = hostile.encoded(hostile.photograph(), "JPEG")
MOST = 2**20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def service(model: Path) -> Iterator[Served]:
    with Served(model, model.parent / "decisions.sqlite", max_bytes=MOST, max_pixels=10**6, patience=1.5) as running:
        yield running


def form(parts: dict[str, bytes], boundary: str = "XX") -> bytes:
    """A multipart body; a part called image is a file."""
    told = b""
    for name, value in parts.items():
        file = '; filename="../../etc/passwd"' if name == "image" else ""
        told += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value + b"\r\n"
        )
    return told + f"--{boundary}--\r\n".encode()


def test_every_way_to_ask_gets_the_same_answer(service: Served, model: Path) -> None:
    served = ExportedModel(model)
    expected = served.answer(np.stack([served.prepare(PHOTOGRAPH)]))[0]
    encoded = base64.b64encode(PHOTOGRAPH).decode()
    asked = [
        service.score(PHOTOGRAPH),
        service.ask("POST", "/invocations", PHOTOGRAPH, content_type="application/x-image"),
        service.ask("POST", "/invocations", {"image": encoded}),
        service.ask(
            "POST", "/invocations", form({"image": PHOTOGRAPH}), content_type="multipart/form-data; boundary=XX"
        ),
    ]
    for status, answer, _ in asked:
        assert status == 200, answer
        assert (answer["score"], answer["decision"]) == (expected["score"], expected["decision"])
        assert (answer["model_version"], answer["variant"], answer["id"]) == (served.version, "incumbent", None)


def test_the_open_inference_protocol(service: Served) -> None:
    images = [base64.b64encode(each).decode() for each in (DARK, BRIGHT)]
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [2], "data": images}]
    status, answer, _ = service.ask("POST", "/v2/models/incumbent/infer", {"id": "r1", "inputs": inputs})
    assert status == 200
    assert (answer["id"], answer["model_name"]) == ("r1", "incumbent")
    outputs = {each["name"]: each["data"] for each in answer["outputs"]}
    assert outputs["decision"] == ["defective", "acceptable"]
    assert outputs["score"] == [service.score(each)[1]["score"] for each in (DARK, BRIGHT)]
    status, told, _ = service.ask("GET", "/v2/models/incumbent")
    assert told["versions"] == [answer["model_version"]]
    assert {each["name"] for each in told["outputs"]} == {"score", "decision"}
    assert service.ask("GET", "/v2/models/none")[0] == 404
    assert service.ask("GET", "/v2/health/ready")[:2] == (200, {"ready": True})


def test_pages_for_people_need_no_token_and_load_nothing_from_elsewhere(service: Served) -> None:
    for path in ("/", "/docs"):
        status, page, headers = service.ask("GET", path, token=None)
        assert status == 200
        assert b"http://" not in page
        assert b"https://" not in page
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
    schema = service.ask("GET", "/openapi.json", token=None)[1]
    assert set(schema["paths"]) >= {"/ping", "/invocations", "/v2/models/{name}/infer", "/metrics"}


@pytest.mark.parametrize("token", [None, "", "a-token-of-the-test", TOKEN + "x", "ä" * 20])
def test_without_the_token_nothing_is_told(service: Served, token: str | None) -> None:
    headers = {} if token is None else {"authorization": f"Bearer {token}".encode().decode("latin-1")}
    for method, path in (("POST", "/invocations"), ("GET", "/metrics"), ("GET", "/v2/models"), ("GET", "/nothing")):
        status, answer, told = service.ask(
            method, path, PHOTOGRAPH if method == "POST" else None, token=None, **headers
        )
        assert (status, answer["error"], told["www-authenticate"]) == (401, "token", "Bearer")
    assert service.ask("GET", "/ping", token=None)[0] == 200


JSON = {"content_type": "application/json"}
FORM = {"content_type": "multipart/form-data; boundary=XX"}
DEEP = b'{"image":' + b"[" * 200_000


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"", {"content_type": "image/png"}, 400, "no_image"),
        (b"this is no image" * 4, {"content_type": "image/png"}, 415, "format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {"content_type": "image/svg+xml"}, 415, "format"),
        (PHOTOGRAPH[: len(PHOTOGRAPH) // 2], {"content_type": "image/jpeg"}, 422, "truncated"),
        (DARK[:12] + bytes(99), {"content_type": "image/png"}, 422, "corrupt"),
        (hostile.encoded(Image.new("RGB", (1, 1)), "PNG"), {"content_type": "image/png"}, 422, "too_small"),
        (hostile.encoded(Image.new("RGB", (9, 60_000)), "PNG"), {"content_type": "image/png"}, 422, "aspect"),
        (hostile.encoded(Image.new("1", (1001, 1001)), "PNG"), {"content_type": "image/png"}, 413, "too_many_pixels"),
        (hostile.png(50_000, 50_000, hostile.zeros(10**6)), {"content_type": "image/png"}, 413, "too_many_pixels"),
        (hostile.animated("PNG"), {"content_type": "image/png"}, 422, "animated"),
        (hostile.animated("GIF"), {"content_type": "image/gif"}, 415, "format"),
        (bytes(MOST + 1), {"content_type": "image/png"}, 413, "body_too_large"),
        (PHOTOGRAPH, {"content_type": "application/zip"}, 415, "content_type"),
        (PHOTOGRAPH, {}, 415, "content_type"),
        (b"{", JSON, 400, "json"),
        (b"[1]", JSON, 400, "json"),
        (b'{"impressions": NaN}', JSON, 400, "json"),
        (b"\xff\xfe", JSON, 400, "json"),
        (DEEP, JSON, 400, "json"),
        (b'{"impressions": ' + b"9" * 10_000 + b"}", JSON, 400, "json"),
        (b"{}", JSON, 400, "no_image"),
        (b'{"image": 7}', JSON, 400, "base64"),
        (b'{"image": "%%%"}', JSON, 400, "base64"),
        (b'{"image": "' + b"A" * MOST + b'"}', JSON, 413, "body_too_large"),
        (b'{"image": "http://169.254.169.254/latest"}', JSON, 400, "address"),
        (b'{"url": "file:///etc/passwd"}', JSON, 400, "unknown_field"),
        (b'{"image": "aGFsbG8=", "id": ""}', JSON, 400, "id"),
        (b'{"image": "aGFsbG8=", "id": "\\ud800"}', JSON, 400, "id"),
        (b'{"image": "aGFsbG8=", "id": "a\\u0000"}', JSON, 400, "id"),
        (b'{"image": "aGFsbG8=", "impressions": -1}', JSON, 400, "impressions"),
        (b'{"image": "aGFsbG8=", "impressions": 1e400}', JSON, 400, "impressions"),
        (PHOTOGRAPH, FORM, 400, "multipart"),
        (form({"image": PHOTOGRAPH}), {"content_type": "multipart/form-data; boundary=YY"}, 400, "multipart"),
        (form({"image": PHOTOGRAPH}), {"content_type": "multipart/form-data"}, 400, "multipart"),
        (form({"image": PHOTOGRAPH})[:-40], FORM, 400, "multipart"),
        (form({"image": b"../../etc/passwd"}), FORM, 415, "format"),
        (form({f"f{i}": b"x" for i in range(100)}), FORM, 400, "multipart"),
        (form({"headline": b"x" * 70_000}), FORM, 400, "multipart"),
        (form({"image": DARK, "impressions": b"many"}), FORM, 400, "impressions"),
    ],
)
def test_what_is_wrong_is_a_4xx_that_says_why(
    service: Served, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    found, answer, _ = service.ask("POST", "/invocations", body, **headers)
    assert (found, answer["error"]) == (status, error), answer
    assert answer["detail"]
    assert service.score(BRIGHT)[0] == 200  # and the service is well


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "inputs"),
        ({"inputs": [1]}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": []}]}, "inputs"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [0], "data": []}]}, "inputs"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1], "data": [1]}]}, "inputs"),
        ({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}, "inputs"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [99], "data": ["a"] * 99}]}, "inputs"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["ftp://x"]}]}, "address"),
        (
            {"id": "\ud800", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGFsbG8="]}]},
            None,
        ),
    ],
)
def test_what_is_wrong_in_the_protocol(service: Served, body: dict[str, Any], error: str | None) -> None:
    status, answer, _ = service.ask("POST", "/v2/models/incumbent/infer", body)
    assert 400 <= status < 500
    assert error is None or answer["error"] == error


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v2/models/..%2f..%2fetc/infer", "//x"]
)
def test_tricks_in_paths_find_nothing(service: Served, path: str) -> None:
    assert service.ask("GET", path)[0] in (404, 405)


def raw(service: Served, sent: bytes, pause: float = 0.0) -> bytes:
    """Send bytes, a few at a time where there is a pause, and return all that comes back until the service hangs up."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as connection:
        try:
            step = 5 if pause else max(1, len(sent))
            for start in range(0, len(sent), step):
                connection.sendall(sent[start : start + step])
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
        except ConnectionResetError:
            pass
        return found


def test_bombs_of_headers_and_clients_that_dawdle_are_cut_off(service: Served) -> None:
    assert raw(service, b"GET /ping HTTP/1.1\r\n" + b"X: " + b"a" * 200_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(service, b"\x16\x03\x01\x02\0\x01\0" * 9).startswith(b"HTTP/1.1 400")
    with ThreadPoolExecutor() as pool:  # the service waits for 1.5 seconds
        headers = pool.submit(raw, service, b"GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * 300, 0.1)
        told = (
            f"POST /invocations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 900\r\n\r\nxx"
        )
        body = pool.submit(raw, service, told.encode())
        silent = pool.submit(raw, service, b"")
        assert headers.result() == b""
        assert body.result().startswith(b"HTTP/1.1 408")
        assert silent.result() == b""
    assert service.score(BRIGHT)[0] == 200


def test_bodies_that_arrive_at_once_are_answered_429_before_they_fill_the_memory(model: Path) -> None:
    """Also those of requests that are not admitted yet; what was sent comes free when its request ends."""
    most = 2 * len(BRIGHT) - 2
    service = Service({"incumbent": model}, {"incumbent": 1.0}, ServiceSettings(max_bytes=most, max_held=most))
    app = application(service, None)

    async def asked(arrived: asyncio.Event | None = None, on: asyncio.Event | None = None) -> tuple[int, Any]:
        parts, sent = [BRIGHT[:-1], BRIGHT[-1:]], []

        async def receive() -> dict[str, Any]:
            if len(parts) == 1 and arrived is not None and on is not None:
                arrived.set()
                await on.wait()
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"image/png")]
        where = {"type": "http", "method": "POST", "path": "/invocations", "query_string": b"", "http_version": "1.1"}
        await app({**where, "headers": headers}, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    async def all_asked() -> None:
        arrived, on = asyncio.Event(), asyncio.Event()
        async with service.running_service():
            slow = asyncio.create_task(asked(arrived, on))
            await arrived.wait()
            status, told = await asked()
            assert (status, told["error"]) == (429, "overloaded")
            on.set()
            assert (await slow)[0] == 200
            assert service.held.bytes == 0
            assert (await asked())[0] == 200

    asyncio.run(all_asked())
    with pytest.raises(ValueError, match=r"service\.max_held=1 is less than service\.max_bytes=2"):
        ServiceSettings(max_bytes=2, max_held=1)


def test_an_ad_is_decided_once(service: Served, model: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [each[1] for each in pool.map(lambda _: service.score(DARK, x_ad_id="ad-1"), range(8))]
    assert len({(answer["score"], answer["decision"]) for answer in answers}) == 1
    facts = {"id": "ad-2", "headline": "Buy", "path": "ads/2.png", "impressions": 7}
    status, answer, _ = service.ask("POST", "/invocations", {"image": base64.b64encode(BRIGHT).decode(), **facts})
    assert (status, answer["decision"]) == (200, "acceptable")
    with DecisionLog(model.parent / "decisions.sqlite") as log:
        table = log.table().set_index("ad_id")
    assert table.index.tolist().count("ad-1") == 1
    assert table.loc["ad-1", "score"] == answers[0]["score"]
    assert table.loc["ad-2", ["decision", "headline", "image", "variant"]].tolist() == [
        "acceptable",
        "Buy",
        "ads/2.png",
        "incumbent",
    ]


def test_an_id_has_one_image_whichever_way_it_is_sent(service: Served, model: Path) -> None:
    first = service.score(BRIGHT, x_ad_id="swap")
    assert (first[0], first[1]["decision"]) == (200, "acceptable")
    forms = [form({"image": each, "id": b"swap"}) for each in (BRIGHT, DARK)]
    kind = {"content_type": "multipart/form-data; boundary=XX"}
    told = [{"image": base64.b64encode(each).decode(), "id": "swap"} for each in (BRIGHT, DARK)]
    same = [service.ask("POST", "/invocations", forms[0], **kind), service.ask("POST", "/invocations", told[0])]
    assert [each[:2] for each in same] == [first[:2]] * 2
    others = [
        service.score(DARK, x_ad_id="swap"),
        service.ask("POST", "/invocations", forms[1], **kind),
        service.ask("POST", "/invocations", told[1]),
    ]
    for status, answer, _ in others:
        assert (status, answer["error"]) == (409, "other_content")
        assert "id 'swap' is that of an ad with other content" in answer["detail"]
        assert "send it with an id of its own" in answer["detail"]
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [1], "data": [told[1]["image"]]},
        {"name": "id", "datatype": "BYTES", "shape": [1], "data": ["swap"]},
    ]
    status, answer, _ = service.ask("POST", "/v2/models/incumbent/infer", {"inputs": inputs})
    outputs = {each["name"]: each["data"] for each in answer["outputs"]}
    assert (status, outputs["decision"]) == (200, ["defective"])  # which logs nothing: what is sent is what is judged
    with ThreadPoolExecutor(8) as pool:  # eight at once, two contents: the first one's, and no decision about the other
        found = list(pool.map(lambda n: service.score((DARK, BRIGHT)[n % 2], x_ad_id="race"), range(8)))
    assert sorted(status for status, _, _ in found) == [200] * 4 + [409] * 4
    assert len({answer["decision"] for status, answer, _ in found if status == 200}) == 1
    with DecisionLog(model.parent / "decisions.sqlite") as log:
        table = log.table().set_index("ad_id")
        log.record("noted-elsewhere", first[1]["model_version"], 0.9, "acceptable", "incumbent")
    assert table.loc["swap", "content"] == hashlib.sha256(BRIGHT).hexdigest()
    status, answer, _ = service.score(BRIGHT, x_ad_id="noted-elsewhere")
    assert (status, "content that was not noted" in answer["detail"]) == (409, True)


def test_an_id_in_a_header_is_the_same_as_in_a_form(service: Served, model: Path) -> None:
    name = "größe-ünï-🚗"
    status, answer, _ = service.score(BRIGHT, x_ad_id=name.encode())  # type: ignore[arg-type]  # http.client sends bytes, too
    assert (status, answer["id"]) == (200, name)
    again = service.ask("POST", "/invocations", form({"image": BRIGHT, "id": name.encode()}), **FORM)
    assert again[:2] == (status, answer)
    with DecisionLog(model.parent / "decisions.sqlite") as log:
        assert log.table()["ad_id"].tolist().count(name) == 1
    status, answer, _ = service.score(BRIGHT, x_ad_id="ünï".encode("latin-1"))  # type: ignore[arg-type]
    assert (status, answer["error"]) == (400, "id")
    assert "the header x-ad-id is not UTF-8" in answer["detail"]


def test_prometheus_reads_what_happened(service: Served) -> None:
    service.score(BRIGHT)
    service.score(PHOTOGRAPH[:99])
    told = service.ask("GET", "/metrics")[1].decode()
    for line in (
        'tutelage_requests_total{endpoint="/invocations",status="200"}',
        'tutelage_refused_total{reason="truncated"}',
        'tutelage_decisions_total{decision="acceptable",shadow="false",variant="incumbent"}',
        'tutelage_score_bucket{le="0.9",variant="incumbent"}',
        "tutelage_batch_size_count",
        "tutelage_request_seconds_bucket",
        "tutelage_running_requests 0.0",
    ):
        assert line in told, line


def test_variants_share_the_ads_and_shadows_look_on(tmp_path: Path) -> None:
    for name, bias in (("model", -9.0), ("b", 9.0), ("c", 3.0)):
        write_model(tmp_path / name, bias)
    challengers = json.dumps({"b": str(tmp_path / "b"), "c": str(tmp_path / "c")})
    weights = json.dumps({"incumbent": 1, "b": 1})
    with Served(
        tmp_path / "model", tmp_path / "d.sqlite", challengers=challengers, weights=weights, queue=200
    ) as service:
        answers = [service.score(DARK, x_ad_id=f"ad-{number}")[1] for number in range(30)]
        again = [service.score(DARK, x_ad_id=f"ad-{number}")[1] for number in range(30)]
        assert service.stop() in (0, -15)  # shadows are logged before it ends
    assert answers == again
    assert {(each["variant"], each["decision"]) for each in answers} == {
        ("incumbent", "defective"),
        ("b", "acceptable"),
    }
    with DecisionLog(tmp_path / "d.sqlite") as log:
        table = log.table()
    assert len(table[~table["shadow"]]) == 30
    assert table[table["shadow"]].groupby("variant").size().to_dict() == {"c": 30}


class Load:
    """Threads that ask without a pause, until the `with` ends."""

    def __init__(self, service: Served, threads: int = 4, prefix: str = "") -> None:
        self.prefix = prefix
        self.service, self.answers, self.failures = service, [], []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, number: int) -> None:
        count = 0
        while not self.over.is_set():
            count += 1
            id = f"{self.prefix}{number}-{count}"
            try:
                status, answer, headers = self.service.score(BRIGHT, x_ad_id=id)
                self.answers.append((id, status, answer, headers))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)
                return

    def until(self, done: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert done()


def test_a_new_version_takes_over_without_a_dropped_request_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    first = write_model(tmp_path / "model")["version"]
    with Served(tmp_path / "model") as service, Load(service) as load:
        load.until(lambda: len(load.answers) > 20)
        second = write_model(tmp_path / "model", bias=1.0)["version"]
        load.until(lambda: load.answers[-1][2].get("model_version") == second)
        (tmp_path / "model" / "graph-2.0-0.onnx").write_bytes(b"x")
        card = json.loads((tmp_path / "model" / "model.json").read_text())
        (tmp_path / "model" / "model.json").write_text(json.dumps({**card, "title": "tampered with"}))
        load.until(lambda: b"tutelage_model_load_failures_total{" in service.ask("GET", "/metrics")[1])
        count = len(load.answers)
        load.until(lambda: len(load.answers) > count + 20)
        assert load.answers[-1][2]["model_version"] == second
        third = write_model(tmp_path / "copied", bias=-1.0)
        (tmp_path / "copied" / "model.json").replace(tmp_path / "model" / "model.json")  # a copy whose card comes first
        load.until(lambda: b'failures_total{variant="incumbent"} 2.0' in service.ask("GET", "/metrics")[1])
        (tmp_path / "copied" / third["graph"]).replace(tmp_path / "model" / third["graph"])
        load.until(lambda: load.answers[-1][2].get("model_version") == third["version"])
    assert not load.failures
    assert {status for _, status, _, _ in load.answers} == {200}
    versions = [answer["model_version"] for _, _, answer, _ in load.answers]
    assert set(versions) == {first, second, third["version"]}
    scores = {(answer["model_version"], answer["score"]) for _, _, answer, _ in load.answers}
    assert len(scores) == 3  # no request was scored by the one and told of the other


def test_overload_is_answered_429_and_sigterm_loses_nothing(tmp_path: Path) -> None:
    write_model(tmp_path / "model", rounds=20)
    with Served(tmp_path / "model", tmp_path / "d.sqlite", queue=3, batch=1) as service, Load(service, 8) as load:
        load.until(lambda: {200, 429} <= {status for _, status, _, _ in load.answers})
        load.until(lambda: sum(status == 200 for _, status, _, _ in load.answers) > 10)
        assert service.stop() in (0, -15)
    refused = [headers for _, status, _, headers in load.answers if status == 429]
    assert all(1 <= int(headers["retry-after"]) <= 60 for headers in refused)
    assert {status for _, status, _, _ in load.answers} == {200, 429}
    answered = {id for id, status, _, _ in load.answers if status == 200}
    with DecisionLog(tmp_path / "d.sqlite") as log:
        logged = log.table()["ad_id"].tolist()
    assert set(logged) == answered
    assert len(logged) == len(answered)


def test_kill_under_load_loses_no_answered_decision(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    answered: set[str] = set()
    for turn in range(3):
        with Served(tmp_path / "model", tmp_path / "d.sqlite") as service, Load(service, prefix=f"{turn}-") as load:
            load.until(lambda load=load: len(load.answers) > 15)
            service.process.kill()
        answered |= {id for id, status, _, _ in load.answers if status == 200}
        with DecisionLog(tmp_path / "d.sqlite") as log:
            logged = log.table()["ad_id"].tolist()
        assert answered <= set(logged), turn
        assert len(set(logged)) == len(logged)


@pytest.mark.parametrize("token", ["secret", "sixteen letters ", "größer-als-sechzehn"])
def test_a_token_that_is_none_is_refused_by_the_name_it_came_by(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = rf"has {len(token)} characters and must have at least 16, of printable ASCII without spaces"
    with pytest.raises(ValueError, match=f"--token {said}") as error:
        chosen_token(token)
    assert token not in str(error.value)
    monkeypatch.setenv("TUTELAGE_TOKEN", token)
    with pytest.raises(ValueError, match=f"TUTELAGE_TOKEN {said}"):
        chosen_token(None)
    monkeypatch.setenv("TUTELAGE_TOKEN", TOKEN)
    assert (chosen_token(None), chosen_token("none")) == (TOKEN, None)


def test_the_environment_of_a_container() -> None:
    told = arguments({"TUTELAGE_QUEUE": "7", "TUTELAGE_MODEL": "/m", "TUTELAGE_WEIGHTS": '{"a": 1}', "HOME": "/"})
    assert told["settings"].queue == 7
    assert (told["model"], told["weights"], told["host"], told["port"]) == (Path("/m"), {"a": 1}, "127.0.0.1", 8080)
    for name, value, message in (
        ("QUEU", "1", "TUTELAGE_QUEU is none of"),
        ("QUEUE", "many", "TUTELAGE_QUEUE='many' cannot be read"),
        ("QUEUE", "0", r"service\.queue=0 must be an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            arguments({f"TUTELAGE_{name}": value})


def test_a_person_drops_an_image_on_the_page(service: Served, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser is installed")
    (tmp_path / "ad.png").write_bytes(DARK)
    (tmp_path / "cut.png").write_bytes(PHOTOGRAPH[:200])
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"http://127.0.0.1:{service.port}/")
        page.fill("#token", TOKEN)  # nothing is told without it
        page.press("#token", "Enter")
        page.wait_for_selector("#drop:visible")
        assert TOKEN not in page.url
        page.set_input_files("#file", tmp_path / "ad.png")
        page.wait_for_selector("#verdict:has-text('Defective')")
        score = service.score(DARK)[1]["score"]
        assert f"{score:.4f}" in page.inner_text("#facts")
        page.set_input_files("#file", tmp_path / "cut.png")
        page.wait_for_selector("#problem:has-text('truncated')")
        assert not page.is_visible("#result")
        assert Axe().run(page).violations_count == 0
        browser.close()
