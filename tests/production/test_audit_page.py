"""The page on which moderators judge: in a real browser, wide and narrow, light and dark, and without the token."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from shop import fill
from sqlalchemy import select

from processes import PATIENCE, free_port
from tutelage.production.audit_server import application
from tutelage.production.audits import draw
from tutelage.production.decisions import DecisionLog
from tutelage.production.tables import items, verdicts

TOKEN = "se/cret"
CHROMIUM = shutil.which("chromium")


class Service:
    """A running page over a shop's first week."""

    def __init__(self, folder: Path) -> None:
        self.log = DecisionLog(folder / "decisions.sqlite")
        names = fill(self.log, 1, ads=12)
        images = folder / "images"
        images.mkdir()
        for k, name in enumerate(names):
            pixels = np.full((60, 90, 3), (20 * k, 120, 200 - 10 * k), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{name}.png")
        self.ads = sum(draw(self.log.database, 6, overlap=0).ads.values())
        self.port = free_port()
        self.at = f"http://127.0.0.1:{self.port}"
        service = application(self.log.database, images, TOKEN)
        self.server = uvicorn.Server(uvicorn.Config(service, port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            self.thread.join(0.02)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        self.log.close()

    def kept(self) -> list[tuple[str, str]]:
        with self.log.database.read() as connection:
            found = select(verdicts.c.moderator, verdicts.c.verdict).order_by(verdicts.c.id)
            return [(moderator, verdict) for moderator, verdict in connection.execute(found)]

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        told = {
            "Content-Type": "application/json",
            "Cookie": f"tutelage_audit={TOKEN}",
            "X-Moderator": "ann",
            **headers,
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.at + path, data, {name: text for name, text in told.items() if text})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    try:
        yield running
    finally:
        running.close()


def test_nothing_is_answered_without_the_token(service):
    for path, body in (
        ("/next", {}),
        ("/verdict", {"item": 1, "verdict": "unsure"}),
        ("/undo", {}),
        ("/items/1/image", None),
    ):
        for cookie in ("", "tutelage_audit=wrong", "tutelage_audit="):
            assert service.ask(path, body, Cookie=cookie)[0] == 401
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(service.at + "/", timeout=PATIENCE)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(service.at + "/?token=wrong", timeout=PATIENCE)
    assert service.kept() == []


def test_a_long_body_is_not_read(service):
    address = urllib.parse.urlsplit(service.at)
    for headers in ({"Content-Length": str(10**9)}, {"Transfer-Encoding": "chunked"}):
        connection = http.client.HTTPConnection(address.netloc, timeout=PATIENCE)
        connection.putrequest("POST", "/verdict")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()


@pytest.mark.parametrize(
    ("path", "body", "headers", "code", "said"),
    [
        ("/verdict", {"item": 1, "verdict": "perhaps"}, {}, 422, "'acceptable', 'defective' or 'unsure'"),
        ("/verdict", {"item": 999, "verdict": "unsure"}, {}, 422, "item=999: there is no such item"),
        ("/next", {}, {"X-Moderator": ""}, 422, "give the moderator's name"),
        ("/next", {}, {"X-Moderator": "%00"}, 422, "give the moderator's name"),
        ("/next", {}, {"X-Moderator": "a" * 61}, 422, "give the moderator's name"),
        ("/items/999/image", None, {}, 404, "no image was recorded"),
        ("/audit.py", None, {}, 404, "there is no such page"),
    ],
)
def test_mistakes_are_answered(service, path, body, headers, code, said):
    found, detail = service.ask(path, body, **headers)
    assert found == code
    assert said in json.dumps(detail)


def test_an_image_is_shown_upright_without_what_else_its_file_says_and_from_its_folder_only(service, tmp_path):
    status, data = service.ask("/items/1/image")
    assert status == 200
    assert data.startswith(b"\xff\xd8\xff")
    (tmp_path / "secret.png").write_bytes(next((tmp_path / "images").iterdir()).read_bytes())
    for path, said in (("../secret.png", "outside_root"), ("nowhere.png", "missing")):
        with service.log.database.engine.begin() as connection:
            connection.execute(items.update().where(items.c.id == 1).values(image=path))
        status, detail = service.ask("/items/1/image")
        assert status == 404
        assert said in detail["detail"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, service: Service, name: str | None = "Ann", **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(f"{service.at}/?token=se%2Fcret")
    if name is not None:
        page.fill("#name", name)
        page.click("text=Start")
        page.wait_for_selector("#desk:visible")
    return page


def counted(page: Any, text: str) -> None:
    page.wait_for_function("text => document.getElementById('count').textContent.startsWith(text)", arg=text)


def test_a_moderator_judges_with_the_keyboard_takes_back_and_finishes(browser, service):
    page = opened(browser, service)
    assert "token" not in page.url
    assert page.evaluate("document.cookie") == ""
    counted(page, "0 of 6, 0 by you")
    first = page.text_content("#ad")
    assert page.text_content("#headline") == f"Buy {first}"
    assert page.text_content("#subtask").endswith("sub-task 1")
    page.wait_for_function("document.getElementById('image').naturalWidth === 90")
    page.keyboard.press("z")
    assert page.is_visible("#large")
    page.keyboard.press("z")
    assert not page.is_visible("#large")
    page.keyboard.press("d")
    counted(page, "1 of 6, 1 by you")
    assert service.kept() == [("Ann", "defective")]
    assert page.text_content("#ad") != first
    page.keyboard.press("u")
    counted(page, "0 of 6")
    assert page.text_content("#ad") == first
    assert page.text_content("#before") == "You said: defective. Judge again."
    assert service.kept() == []
    page.reload()  # the name is kept, and the advertisement too
    page.wait_for_selector("#desk:visible")
    assert page.text_content("#ad") == first
    for count, key in enumerate("asdaad", 1):
        page.keyboard.press(key)
        counted(page, f"{count} of 6")
    page.wait_for_selector("#done:visible")
    page.keyboard.press("a")  # nothing to judge
    words = {"a": "acceptable", "s": "unsure", "d": "defective"}
    assert service.kept() == [("Ann", words[key]) for key in "asdaad"]
    assert page.errors == []


def test_two_moderators_see_different_advertisements_and_a_phone_has_buttons(browser, service):
    ann = opened(browser, service)
    ben = opened(browser, service, "Bén", viewport={"width": 390, "height": 760}, has_touch=True, color_scheme="dark")
    assert ann.text_content("#ad") != ben.text_content("#ad")
    ben.tap("[data-verdict=acceptable]")
    counted(ben, "1 of 6, 1 by you")
    assert service.kept() == [("Bén", "acceptable")]
    assert ben.evaluate("document.documentElement.scrollWidth") == 390
    for verdict in ("acceptable", "defective", "unsure"):
        box = ben.locator(f"[data-verdict={verdict}]").bounding_box()
        assert box["height"] >= 44
        assert box["y"] + box["height"] <= 760
    ben.tap("#undo")
    counted(ben, "0 of 6")
    assert ben.errors == ann.errors == []


def test_a_verdict_that_could_not_be_kept_is_said(browser, service):
    page = opened(browser, service)
    page.route("**/verdict", lambda route: route.abort())
    page.keyboard.press("a")
    page.wait_for_selector("#message.wrong")
    assert page.text_content("#message").startswith("Not kept: ")
    page.unroute("**/verdict")
    page.keyboard.press("a")
    counted(page, "1 of 6")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible(browser, service, scheme, width):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()

    def violations(page: Any) -> list[str]:
        return [
            f"{found['id']}: {[node['html'] for node in found['nodes']]}"
            for found in axe.run(page).response["violations"]
        ]

    page = opened(
        browser, service, None, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True
    )
    assert violations(page) == []
    page.fill("#name", "Ann")
    page.click("text=Start")
    page.wait_for_selector("#desk:visible")
    assert violations(page) == []
    page.click("#picture")
    assert violations(page) == []
    page.keyboard.press("z")
    for count in range(1, 7):
        page.keyboard.press("a")
        counted(page, f"{count} of 6")
    page.wait_for_selector("#done:visible")
    assert violations(page) == []


def test_without_a_token_everybody_is_let_in(tmp_path):
    with DecisionLog(tmp_path / "decisions.sqlite") as log:
        service = application(log.database, tmp_path, None)
        server = uvicorn.Server(uvicorn.Config(service, port=free_port(), log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.02)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.config.port}/", timeout=PATIENCE) as answer:
                assert b"Who judges?" in answer.read()
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def test_the_command_prints_a_link_that_opens_the_page(tmp_path):
    with DecisionLog(tmp_path / "decisions.sqlite") as log:
        fill(log, 1, ads=5)
    words = ["audit", "serve", str(tmp_path / "decisions.sqlite"), str(tmp_path), "--port", str(free_port())]
    environment = {name: value for name, value in os.environ.items() if name != "TUTELAGE_TOKEN"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tutelage.cli", *words], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        link = process.stdout.readline().removeprefix("moderators open ").strip()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        for _ in range(600):
            try:
                with opener.open(link, timeout=PATIENCE) as answer:
                    assert b"Who judges?" in answer.read()
                break
            except urllib.error.URLError:
                assert process.poll() is None
                time.sleep(0.1)
        process.terminate()
        assert process.wait(PATIENCE) in (0, -15)
    finally:
        process.kill()
        process.communicate()
