"""The web page, mostly in a real browser: what people do with it, and what they must not do."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error

import numpy as np
import pytest

from gesture_jax.errors import InputError
from gesture_jax.media import images
from gesture_jax.media.sound import has_audio
from gesture_jax.media.video import read_video
from gesture_jax.media.writer import write_audio, write_video
from gesture_jax.procedural import speaker
from tests import page_client, ports, tiny

pytest.importorskip("gradio", reason="the extra [app] is not installed")

from gesture_jax.page.handlers import _model_of

_ROOT = pathlib.Path(__file__).parents[1]
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
_WAIT_MS = 90_000
_MAX_SEC = 600
_QUICKLY = "JAX_DISABLE_MOST_OPTIMIZATIONS"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of random weights, and what a visitor uploads."""
    root = tmp_path_factory.mktemp("app")
    tiny.constant_stages(root / "runs", **{"model.resolution": 32})
    done = speaker.perform(identity=0, seed=0, duration_sec=1.0, size=32)
    images.write_image(root / "portrait.png", done.frames[0])
    write_audio(root / "speech.wav", done.audio, 16_000)
    # Long enough that its video is not finished before it is cancelled, on any machine.
    write_audio(root / "long.wav", np.tile(done.audio, _MAX_SEC - 1), 16_000)
    write_audio(root / "endless.wav", np.zeros((_MAX_SEC + 1) * 16_000), 16_000)
    write_video(root / "driving.mp4", done.frames[:8], audio=done.audio[: 8 * 640])
    (root / "bad.png").write_bytes(b"no picture at all")
    return root


@contextlib.contextmanager
def _serve(folder, environment, temp):
    """Serves the page by its command, whose temporary files lie in `temp`; yields the address."""
    port = ports.free_port()
    arguments = [f"--workdirs={folder}/runs", f"--port={port}", f"--max_sec={_MAX_SEC}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gesture_jax.app", *arguments],
        cwd=_ROOT, env={**environment, "TMPDIR": str(temp)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert "Running on" in line, line + process.stdout.read()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_WAIT_MS / 1000)
    assert not list(temp.glob("gesture_jax-*"))  # Nothing stays behind.


@pytest.fixture(scope="module")
def server(folder):
    """The address of a page with small models, whose files are in `folder / "tmp"`."""
    (folder / "tmp").mkdir()
    # Little is computed there, much is compiled.
    with _serve(folder, {**os.environ, _QUICKLY: "true"}, folder / "tmp") as address:
        yield address


@pytest.fixture(scope="module")
def browser(folder):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if _CHROMIUM is None:
        pytest.skip("no chromium is installed")
    microphone = f"--use-file-for-fake-audio-capture={folder}/speech.wav"
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", microphone]
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *fake]
        opened = playwright.chromium.launch(executable_path=_CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, server):
    """The page as a new visitor sees it, who notes what it asks of other hosts."""
    context = browser.new_context(permissions=["microphone"], locale="en-US")
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server)
    page.wait_for_selector("#talk-go", timeout=_WAIT_MS)
    yield page
    ours = (server, "data:", "blob:")
    assert [url for url in asked if not url.startswith(ours)] == []
    context.close()


def _give(page, key: str, path: pathlib.Path) -> None:
    with page.expect_response(lambda response: "/upload" in response.url):
        page.locator(f"#{key} input[type=file]").set_input_files(str(path))


def _status(page, tab: str, words: str) -> str:
    """What the page says, once it says something with these words."""
    told = page.locator(f"#{tab}-status", has_text=re.compile(words))
    told.wait_for(timeout=_WAIT_MS)
    return told.inner_text()


def _plays(page, tab: str) -> dict[str, float]:
    page.wait_for_function(
        f"document.querySelector('#{tab}-video video')?.readyState >= 2", timeout=_WAIT_MS
    )
    return page.evaluate(
        f"(({{duration, videoWidth}}) => ({{duration, videoWidth}}))"
        f"(document.querySelector('#{tab}-video video'))"
    )


def test_a_visitor_makes_plays_and_downloads_a_video(page, folder, tmp_path):
    _give(page, "talk-portrait", folder / "portrait.png")
    _give(page, "talk-speech", folder / "speech.wav")
    page.click("#talk-go")
    _status(page, "talk", "Done")
    shown = _plays(page, "talk")
    assert shown["videoWidth"] == 32 and shown["duration"] == pytest.approx(1.0, abs=0.05)
    for button, name in (("download", "video.mp4"), ("motion", "motion.npz")):
        with page.expect_download() as download:
            page.click(f"#talk-{button}")
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    assert len(read_video(tmp_path / "video.mp4", size=32)) == 25
    assert has_audio(tmp_path / "video.mp4")
    with np.load(tmp_path / "motion.npz") as motion:
        assert motion["motion"].shape[0] == 25
    # Where people leave, their files go.
    made = lambda name: list((folder / "tmp").rglob(name))
    assert made("video.mp4") and made("portrait.png")
    page.goto("about:blank")
    deadline = time.monotonic() + _WAIT_MS / 1000
    while (made("video.mp4") or made("portrait.png")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not made("video.mp4") and not made("portrait.png") and made("drawn_0.png")


def test_an_avatar_needs_consent_and_one_upload(server, folder):
    portrait = page_client.upload(server, folder / "portrait.png")
    events = page_client.press(server, "avatar-go", {0: portrait}, session="visitor")
    assert "confirmthatthepersonwhoisshownagreed" in events
    events = page_client.press(server, "avatar-go", {}, session="visitor")
    assert "giveaportraitoravideo,oneofthem" in events


def test_a_model_cannot_be_a_file_of_the_server():
    with pytest.raises(InputError, match="no such model"):
        _model_of("portrait.png", "/somewhere/me.avatar")
    assert _model_of("/uploads/me.avatar", "photo") == "/uploads/me.avatar"


def test_bad_files_are_told_of_in_a_sentence(page, folder):
    page.click("#talk-go")
    assert "a portrait is missing" in _status(page, "talk", "missing")
    _give(page, "talk-portrait", folder / "bad.png")
    _give(page, "talk-speech", folder / "speech.wav")
    page.click("#talk-go")
    told = _status(page, "talk", "not a picture")
    assert told.startswith("bad.png: not a picture; give one of PNG") and str(folder) not in told
    page.reload()
    page.wait_for_selector("#talk-go")
    _give(page, "talk-portrait", folder / "portrait.png")
    _give(page, "talk-speech", folder / "endless.wav")
    page.click("#talk-go")
    assert _status(page, "talk", "lasts") == f"endless.wav: lasts longer than {_MAX_SEC} s; cut it"


def test_work_is_cancelled(page, folder):
    _give(page, "talk-portrait", folder / "portrait.png")
    _give(page, "talk-speech", folder / "long.wav")
    page.click("#talk-go")
    _status(page, "talk", "Frame|Loading")
    page.click("#talk-cancel")
    _status(page, "talk", "Cancelled")
    time.sleep(1.0)
    assert "Cancelled" in page.inner_text("#talk-status")
    assert not page.locator("#talk-video video").count()


def test_a_portrait_moves_like_a_video(page, folder):
    page.get_by_role("tab", name="Animate").click()
    _give(page, "animate-portrait", folder / "portrait.png")
    _give(page, "animate-driving", folder / "driving.mp4")
    page.click("#animate-go")
    _status(page, "animate", "Done")
    assert _plays(page, "animate")["duration"] == pytest.approx(8 / 25, abs=0.05)


def test_a_portrait_talks_with_the_microphone(page, folder):
    page.get_by_role("tab", name="Live").click()
    page.locator("#live-people button").first.click()
    page.wait_for_selector("#live-portrait img", timeout=_WAIT_MS)
    microphone = page.locator("#live-microphone")
    microphone.get_by_text("Record").click()
    page.wait_for_selector("#live-stage img", timeout=_WAIT_MS)
    microphone.get_by_text("Stop", exact=True).click()
    _status(page, "live", "Done")
    assert _plays(page, "live")["duration"] > 0.5
    page.goto("about:blank")
    time.sleep(0.5)
    assert list((folder / "tmp").rglob("drawn_0.png"))  # An example stays for others.


def test_files_of_the_machine_are_out_of_reach(server, folder):
    secret = folder / "runs" / "stage1" / "config.json"
    for path in (secret, folder / "tmp/../runs/stage1/config.json", "/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            page_client.open_url(f"{server}/gradio_api/file={path}")
        refused.value.close()
        assert refused.value.code in (403, 404)
    files = {1: folder / "portrait.png", 3: folder / "speech.wav"}  # On its disk, not uploaded.
    events = page_client.press(server, "talk-go", files, session="../../escape")
    assert '"success":false' in events and "Done" not in events


@pytest.mark.slow
def test_the_page_makes_a_video_as_users_start_it(folder, tmp_path):
    """With programs that are compiled as they are for users."""
    environment = dict(os.environ)
    del environment["XLA_FLAGS"]
    with _serve(folder, environment, tmp_path) as server:
        uploads = [page_client.upload(server, folder / n) for n in ("portrait.png", "speech.wav")]
        files = dict(zip((1, 3), uploads, strict=True))  # Input 2 is an avatar.
        events = page_client.press(server, "talk-go", files, session="visitor")
    assert '"success":true' in events and "Done" in events
