"""The page in a real browser: files and a microphone
(Chromium's fake one), on a wide and on a narrow screen."""

import os
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

import uvicorn

from alpha_sv.verify.gallery import Gallery
from alpha_sv.verify.serve import make_app
from tests.fixtures.browser import CHROMIUM, Browser
from tests.fixtures.voices import SpectralModel, calibrator, save_recordings

HISTOGRAM = {"low": -0.3, "high": 1.0, "targets": [0, 0, 1, 5, 20, 30, 9, 2], "nontargets": [9, 80, 60, 20, 5, 1, 0, 0]}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@pytest.fixture
def world(tmp_path):
    line = calibrator(weight=40.0, offset=-30.0, provenance={"histogram": HISTOGRAM})
    gallery = Gallery(tmp_path / "g.sqlite", SpectralModel(calibrator=line))
    server = uvicorn.Server(uvicorn.Config(make_app(gallery.model, gallery), port=0, log_level="error"))
    socket = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    browser = Browser(tmp_path / "profile")
    yield browser, f"http://127.0.0.1:{socket.getsockname()[1]}/", gallery, save_recordings(tmp_path / "wav", 6, 2)
    browser.close()
    server.should_exit = True
    thread.join(60)


def fits(browser):
    return browser.run("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_whole_visit(world, width, tmp_path):
    browser, url, gallery, files = world
    pictures = os.environ.get("ALPHA_SV_PICTURES", str(tmp_path))  # to look at them
    browser.size(width)
    browser.open(url)
    browser.wait("document.querySelector('#about').textContent.includes('spectral')")
    assert fits(browser)

    browser.choose("#verify .drop[data-field=a] input", [files[0][0]])
    browser.choose("#verify .drop[data-field=b] input", [files[0][1]])
    browser.wait("document.querySelectorAll('#verify li').length === 2")
    browser.run("document.querySelector('#verify [data-do]').click()")
    browser.wait("document.querySelector('#verify .verdict')")
    assert browser.run("document.querySelector('#verify .verdict').textContent") == "Same speaker"
    assert browser.run("document.querySelectorAll('#verify polygon').length") == 2
    assert fits(browser)

    for name, file in (("Ann <b>bold</b>", files[0][0]), ("Bob", files[5][0])):
        browser.choose("#enrol input[type=file]", [file])
        browser.wait("document.querySelectorAll('#enrol li').length === 1")
        browser.run(
            f"document.querySelector('#name').value = {name!r}; document.querySelector('#enrol [data-do]').click()"
        )
        browser.wait(f"document.querySelector('#list').textContent.includes({name!r})")
    assert gallery.names() == ["Ann <b>bold</b>", "Bob"] and browser.run("document.querySelectorAll('b').length") == 0

    browser.choose("#identify input", [files[0][1]])
    browser.wait("document.querySelectorAll('#identify li').length === 1")
    browser.run("document.querySelector('#identify [data-do]').click()")
    browser.wait("document.querySelector('#identify .verdict')")
    assert browser.run("document.querySelector('#identify .verdict').textContent") == "Ann <b>bold</b>"
    browser.run("document.querySelector('#people [data-do]').click()")
    browser.wait("document.querySelector('#people pre')")
    assert fits(browser)
    browser.screenshot(f"{pictures}/page_{width}.png")

    browser.run("window.confirm = () => true; document.querySelector('#list button').click()")
    browser.wait("document.querySelectorAll('#list .person').length === 1")
    assert gallery.names() == ["Bob"]
    assert browser.console == []


def test_the_microphone(world):
    browser, url, _, _ = world
    browser.open(url)
    browser.wait("document.querySelector('#about').textContent.includes('spectral')")
    for field in "ab":
        record = f"document.querySelector('#verify .drop[data-field={field}] button')"
        browser.run(f"{record}.click()")
        browser.wait(f"{record}.textContent === 'Stop'")
        time.sleep(2.5)  # Chromium's microphone beeps once a second
        browser.run(f"{record}.click()")
        browser.wait(f"document.querySelectorAll('#verify .drop[data-field={field}] li').length === 1")
    browser.run("document.querySelector('#verify [data-do]').click()")
    browser.wait("document.querySelector('#verify .verdict')")
    text = browser.run("document.querySelector('#verify .out').textContent")
    assert "cosine" in text and "nothing above" not in text.lower().replace("nothing above 0", "")
    assert browser.console == []
