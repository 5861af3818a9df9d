"""The page, in a real browser: what it gives back, refuses, and leaves behind."""

import json
import shutil
import signal
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from demo_site import BROWSER, DRIVER, Site, opened
from PIL import Image

import clearmark
import demo
from clearmark.errors import UserError

browsing = pytest.mark.skipif(
    not (Path(BROWSER).exists() and Path(DRIVER).exists()),
    reason="no Chromium; apt-get install -y chromium chromium-driver",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    one = Site(tmp_path_factory.mktemp("site"), "threads=1", "megabytes=0.5", "megapixels=20")
    yield one
    one.process.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = opened(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def look(site, browser):
    """Looks for elements of the page, and waits until something can be said of the first."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    if not browser.current_url.startswith(site.address):
        browser.get(site.address)

    def look(selector, so=lambda element: True):
        def found(driver):
            seen = driver.find_elements(By.CSS_SELECTOR, selector)
            return seen if seen and so(seen[0]) else None

        return WebDriverWait(browser, 60, ignored_exceptions=[Exception]).until(found)

    return look


@pytest.fixture
def give(look):
    """Drops a file on the place with that id."""

    def give(place, path):
        full = f"#{place} button[aria-label=Clear]"
        if look(f"#{place}")[0].find_elements("css selector", "button[aria-label=Clear]"):
            look(full)[0].click()
        look(f"#{place} input[type=file]")[0].send_keys(str(path))

    return give


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A clean photo, the same one with a mark, and files that are refused."""
    folder = tmp_path_factory.mktemp("pictures")
    photo = sorted((ROOT / "src/clearmark/assets/photos/test").glob("*.jpg"))[0]
    with Image.open(photo) as image:
        clean = np.asarray(image.convert("RGB").resize((240, 160)))
    marked = clean.copy()
    marked[60:100, 40:200] = (marked[60:100, 40:200] + 255.0) / 2
    Image.fromarray(clean).save(folder / "clean.png")
    Image.fromarray(marked).save(folder / "marked.png")
    (folder / "words.png").write_text("<b>words</b>")
    (folder / "cut.png").write_bytes((folder / "marked.png").read_bytes()[:9000])
    (folder / "bomb.png").write_bytes(bomb(60_000))
    (folder / "heavy.png").write_bytes(bytes(600_000))
    return folder


def bomb(side):
    """A PNG of a few bytes that claims to be side x side pixels."""

    def chunk(kind, content):
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@browsing
@pytest.mark.slow
def test_a_marked_picture_comes_back_restored(look, give, browser, pictures):
    give("source", pictures / "marked.png")
    said = look("#said", lambda element: "240 x 160 pixels" in element.text)[0].text
    assert "a mark is seen on" in said
    sides = look("#pair img")
    sizes = [image.get_property("naturalWidth") for image in (*sides, *look("#mask img"))]
    assert sizes == [240, 240, 240]
    look("#result", lambda button: button.is_enabled())[0].click()
    file = browser.got / "marked_restored.png"
    look("#result", lambda button: file.exists())
    with Image.open(pictures / "marked.png") as image:
        expected = np.asarray(clearmark.load(device="cpu")(image)).astype(int)
        marked = np.asarray(image).astype(int)
    with Image.open(file) as image:
        assert np.abs(np.asarray(image) - expected).max() <= 1  # threads may round differently
    assert np.abs(expected - marked).max() > 20, "nothing to restore proves nothing"


@browsing
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("words.png", "Error: not a picture"),
        ("cut.png", "Error: broken: "),
        ("bomb.png", "Error: 3600 megapixels are more than megapixels=20"),
    ],
)
def test_a_bad_file_ends_in_one_line(name, why, look, give, pictures):
    give("source", pictures / name)
    line = look("#said", lambda element: element.text.startswith(why))[0].text
    assert "\n" not in line
    assert not look("#result")[0].is_enabled()
    assert not look("#pair")[0].find_elements("css selector", "img"), "of the picture before"


@browsing
@pytest.mark.slow
def test_a_heavy_file_is_refused(look, give, pictures, site):
    give("source", pictures / "heavy.png")
    look("[data-testid=toast-body]", lambda e: "size" in e.text and "heavy.png" in e.text)  # fades
    assert site.upload("heavy.png", (pictures / "heavy.png").read_bytes())[0] == 413


@browsing
@pytest.mark.slow
def test_a_mark_is_put_on_and_tried(look, give, pictures):
    look("button[role=tab]")[1].click()
    look("#start", lambda button: button.is_displayed())[0].click()
    look("#held", lambda element: element.text == "Error: there is no picture; give a clean one")
    give("clean", pictures / "clean.png")
    look("#clean button[aria-label=Clear]")
    look("#start")[0].click()
    figures = look("#held", lambda element: "of the mark remains" in element.text)[0].text
    assert "restored" in figures
    give("logo", pictures / "clean.png")  # which has no transparency
    look("#logo button[aria-label=Clear]")
    look("#start")[0].click()
    line = look("#held", lambda element: "has no transparency" in element.text)[0].text
    assert line.startswith("Error: mark=clean.png has"), "where it lies is no business of a visitor"


@browsing
@pytest.mark.slow
def test_no_other_machine_is_asked(site, browser, look):
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        entry["params"]["request"]["url"]
        for entry in entries
        if entry["method"] == "Network.requestWillBeSent"
    ]
    outside = {url for url in asked if not url.startswith(("data:", "blob:", "chrome"))}
    assert any(url.startswith(f"{site.address}/gradio_api/upload") for url in outside)
    assert {url for url in outside if not url.startswith(site.address)} == set()


@pytest.mark.slow
def test_files_of_the_machine_are_out_of_reach(site, pictures):
    secret = site.folder / "here" / "secret.png"
    shutil.copy(pictures / "clean.png", secret)
    status, path = site.upload("../../../here/up.png", secret.read_bytes())
    assert status == 200
    assert Path(path).is_relative_to(site.folder / "tmp"), "an upload got out"
    assert site.get(f"/gradio_api/file={path}") == 200, "refusing all proves nothing"
    for file in (secret, "/etc/passwd", "../../../../../../etc/passwd", "secret.png"):
        assert site.get(f"/gradio_api/file={file}") == 403
        assert site.ask(file)["success"] is False
    for route in ("/static/../../../../etc/passwd", "/assets/..%2f..%2f..%2f..%2fetc/passwd"):
        assert site.get(route) in (403, 404)
    secret.unlink()


@pytest.mark.slow
def test_other_sites_and_addresses_are_refused(site):
    assert site.get("/") == 200
    assert site.get("/", Origin=site.address) == 200
    assert site.get("/", Origin="http://example.com") == 403
    assert site.get("/", Host="example.com") == 403
    assert site.get("/gradio_api/file=http://example.com/a.png") == 403
    assert site.ask("http://example.com/a.png")["success"] is False


@pytest.mark.slow
def test_nothing_is_left_after_ctrl_c(site):
    assert any("clearmark-demo" in name for name in site.files()), "nothing was there to remove"
    assert site.ended_by(signal.SIGINT) == (0, [])


@pytest.mark.slow
def test_nothing_is_left_when_it_is_ended_in_the_midst(tmp_path, pictures, run_folder):
    site = Site(tmp_path, "threads=1", f"ckpt={run_folder}")
    with Image.open(pictures / "marked.png") as image:
        image.resize((2400, 1600)).save(tmp_path / "large.png")
    path = site.upload("large.png", (tmp_path / "large.png").read_bytes())[1]
    tiles = site.ask(path, str(run_folder), until="progress")["progress_data"][0]
    assert (tiles["unit"], tiles["length"]) == ("tiles", 2)
    assert tiles["index"] < 2, "it was not in the midst"
    assert site.ended_by(signal.SIGTERM) == (0, [])


def test_without_gradio_a_line_says_how_to_get_it(composed, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r'gradio: pip install .* -e "\.\[demo\]"'):
        demo.demo(composed("demo"))
