"""Runs as a table, and the page that compares them, opened in a browser where there is one."""

import base64
import itertools
import json
import math
import re
import shutil

import cv2
import fabricated
import numpy as np
import pandas
import pytest
import torch
from scipy import stats

import report
from clearmark import comparison, page, runs
from clearmark.errors import UserError

BAD = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
REASON = f"loss became NaN {BAD}"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Twelve runs, three of them seeds of each setting, and one that failed."""
    folder = fabricated.runs(tmp_path_factory.mktemp("sweep"), 12, checkpoints=True)
    fabricated.fail(folder / "12", ["optimizer.lr=9.0", "seed=0"], REASON)
    return folder


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Runs of somebody who would like to run something in the reader's browser."""
    folder = tmp_path_factory.mktemp("strange")
    for at in range(2):
        run = folder / f"{at} <img src=x onerror=alert(1)> $x^$ \udcff\u202e"
        typed = BAD.replace("'", "")
        fabricated.write(
            run,
            [f"name='{typed} {at}'"],
            {"test/psnr_gain": 1.0 + at, "test/ssim": BAD, BAD: 1.0, "curves": 3, "failed": ""},
            {BAD: f"{BAD} {at}", "model": {"a": [BAD, at]}, "long": "x" * 100_000 + str(at)},
        )
        (run / "metrics.csv").write_text(f"step,val/psnr_gain\n1,{BAD}\n2,0.5\n")
        (run / "panels").mkdir()
        (run / "panels" / "test.png").write_text(f"<svg onload=alert(1)>{BAD}")
    fabricated.fail(folder / "f", [], BAD)
    return folder


def test_a_row_tells_all_of_a_run(sweep):
    table = runs.load(sweep)
    assert list(table.index) == [str(sweep / str(at)) for at in range(13)]  # 10 behind 9
    assert table.attrs["commands"] == ["loss", "optimizer.lr", "seed", "experiment"]
    row = table.iloc[4]
    typed = [row[key] for key in table.attrs["commands"]]
    assert typed == ["removal", 3e-4, 1, "quick"]
    assert row["test/psnr_gain"] == fabricated.gain(4)
    assert row.curves["train/loss"].to_list() == pytest.approx(
        [math.exp(-3e-4 * step) for step in range(0, 101, 5)]
    )
    validated = row.curves.dropna(subset=["val/psnr_gain"])
    assert validated.step.to_list() == [0, 20, 40, 60, 80, 100]
    assert [path.name for path in row.panels] == ["test.png", "val_epoch000.png"]
    assert row.config["optimizer.betas"] == "[0.9, 0.99]"
    assert row.config["model.activation._target_"] == "torch.nn.ReLU"
    network, _ = runs.load_network(row.checkpoint)
    weights = torch.load(row.checkpoint, weights_only=True)["state_dict"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, weights[f"network.{name}"])
    assert (table.failed == "").sum() == 12
    assert table.failed.iloc[12] == REASON
    assert table["optimizer.lr"].iloc[12] == 9


def test_intervals_are_over_seeds(sweep):
    table = runs.load(sweep)
    over = comparison.over_seeds(table[table.failed == ""], ["test/psnr_gain"])
    assert list(over.index) == [f"optimizer.lr={lr}" for lr in fabricated.LRS]
    assert over.seeds.to_list() == [3, 3, 3, 3]
    gains = [fabricated.gain(at) for at in (3, 4, 5)]
    low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    row = over.loc["optimizer.lr=0.0003"]
    assert row["test/psnr_gain"] == pytest.approx(sum(gains) / 3)
    assert [row["test/psnr_gain_low"], row["test/psnr_gain_high"]] == pytest.approx([low, high])


def test_a_deleted_key_is_no_default(tmp_path):
    for at, words in enumerate((["~callbacks.ema", "x=[1,2]"], ["x=null"])):
        fabricated.write(tmp_path / str(at), words, {"test/psnr": 1.0}, {})
    table = runs.load(tmp_path)
    assert table["callbacks.ema"].fillna("").to_list() == ["(removed)", ""]
    assert table["x"].iloc[0] == "[1, 2]"


LEVELS = "abcdefghijkl"
BOMB = "a: &a [{x: 1}, {x: 1}]\n" + "".join(
    f"{name}: &{name} [{','.join(9 * [f'*{before}'])}]\n"
    for before, name in itertools.pairwise(LEVELS)
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", "[1, 2]"),
        ("results.json", "{"),
        ("results.json", "[" * 100_000),
        ("results.json", b"\xff\xfe"),
        ("config.yaml", "a: [b"),
        ("config.yaml", "!!python/object/apply:os.system [true]"),
        ("config.yaml", "[" * 1200),
        ("config.yaml", "? [1, 2]\n: 3\n"),
        ("metrics.csv", 'step,a\n1,"2\n3'),
        ("metrics.csv", b"step\n\xff\n"),
        ("failed.json", '{"overrides": ["a=b: ["]}'),
        ("failed.json", '{"overrides": 7}'),
    ],
)
def test_a_broken_file_is_named_in_one_line(name, content, tmp_path):
    if name != "failed.json":
        fabricated.write(tmp_path / "run", ["seed=0"], {"test/psnr": 1.0}, {})
    (tmp_path / "run").mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "run" / name).write_bytes(data)
    with pytest.raises(UserError, match=name) as caught:
        runs.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [BOMB, "a: &a\n  b: *a\n"])
def test_a_config_that_would_fill_the_memory_does_not(config, tmp_path):
    fabricated.write(tmp_path / "run", ["seed=0"], {"test/psnr": 10**400}, {})
    (tmp_path / "run" / "config.yaml").write_text(config)
    table = runs.load(tmp_path)
    assert 0 < len(table.config.iloc[0]) <= 2000
    assert len(page.render(table, "x", "test/psnr")) < 1e6


def test_the_best_run_is_first_and_an_errors_best_is_least(sweep):
    table = runs.load(sweep)
    for objective, best in (("test/rmsew", "2"), ("wall_seconds", "11")):
        html = page.render(table, str(sweep), objective)
        first = re.search(r'<tr class="best">.*?<code>(.*?)</code>', html, re.S)
        assert first[1] == best


def test_every_curve_has_a_name(tmp_path, monkeypatch):
    """That of a network without a mask, too, which the last of the pictures does not show."""
    for name, masks in (("a", [0.1, 0.2]), ("b", [np.nan, np.nan])):
        curve = pandas.DataFrame(
            {"step": [1, 2], "val/psnr_gain": [1.0, 2.0], "val/mask_f1": masks}
        )
        fabricated.write(tmp_path / name, [f"loss={name}"], {"test/psnr_gain": 1.0}, {})
        curve.to_csv(tmp_path / name / "metrics.csv", index=False)
    drawn = []
    monkeypatch.setattr(page, "_saved", lambda figure: drawn.append(figure) or b"")
    page.render(runs.load(tmp_path), str(tmp_path), "test/psnr_gain")
    assert [text.get_text() for text in drawn[0].legends[0].texts] == ["1: loss=a", "2: loss=b"]


def test_many_runs_stay_a_small_page(sweep, monkeypatch):
    table = runs.load(sweep)
    for name, value in (("MOST_RUNS", 5), ("MOST_PANELS", 2)):
        monkeypatch.setattr(page, name, value)
    html = page.render(table, str(sweep), "test/psnr_gain")
    assert html.count('<input type="checkbox"') == 5
    assert html.count("<figure") == html.count("data:image/jpeg") == 2
    assert "The best 5 of them are shown" in html
    assert "The best 2 runs are here" in html


def test_a_picture_is_encoded_anew_and_reduced(tmp_path):
    large = cv2.resize(fabricated.panel(0, 64, 2), (1000, 3000))
    cv2.imwrite(str(tmp_path / "test.png"), large)
    uri = page._picture(tmp_path / "test.png")
    data = np.frombuffer(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (1440, 480, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "runs is not set"),
        (["runs={missing}"], "is no folder"),
        (["runs={empty}"], "holds no finished run"),
        (["runs={sweep}", "objective=test/pnsr"], "use one of .*test/psnr_gain"),
        (["runs={sweep}", "output={empty}/x.pdf"], "use .html"),
        (["runs={sweep}/12"], "all 1 runs failed: loss became NaN"),
        (["runs='wandb://a/b'"], "add output=report.html"),
    ],
)
def test_wrong_input_leaves_nothing(words, said, sweep, tmp_path, composed):
    (tmp_path / "empty").mkdir()
    places = {"missing": tmp_path / "no", "empty": tmp_path / "empty", "sweep": sweep}
    with pytest.raises(UserError, match=said):
        report.report(composed("report", *(word.format(**places) for word in words)))
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def written(folder, target, composed):
    return report.report(composed("report", f"runs='{folder}'", f"output='{target}'"))


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("there is no chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ("--headless=new", "--no-sandbox", "--window-size=1400,1000"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def opened(browser, path):
    """Open a page; it says nothing on the console, and asks for itself alone."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"].endswith("WillBeSent")]
    assert asked[0] == path.as_uri()
    assert all(url.startswith("data:") for url in asked[1:])


def column(browser, at):
    cells = browser.find_elements("css selector", f"#runs tbody td:nth-child({at})")
    return [cell.text for cell in cells]


def test_a_browser_shows_and_sorts_it(sweep, tmp_path, browser, composed, capsys):
    target = written(sweep, tmp_path / "new" / "a page.html", composed)
    assert "12 runs, 1 failed" in capsys.readouterr().out
    opened(browser, target)
    headings = [h.text for h in browser.find_elements("css selector", "#runs th")]
    assert headings[:5] == ["#", "show", "optimizer.lr", "seed", "gain (dB)"]
    gains = sorted((fabricated.gain(at) for at in range(12)), reverse=True)
    assert column(browser, 5) == [f"{value:.2f}" for value in gains]
    buttons = {b.text: b for b in browser.find_elements("css selector", "#runs th button")}
    buttons["gain (dB)"].click()
    assert column(browser, 5) == [f"{value:.2f}" for value in gains[::-1]]
    buttons["optimizer.lr"].click()
    assert column(browser, 3) == [str(lr) for lr in fabricated.LRS for _ in range(3)]
    buttons["optimizer.lr"].click()
    assert column(browser, 3) == [str(lr) for lr in fabricated.LRS[::-1] for _ in range(3)]

    loaded = "return [...document.images].map(i => i.complete && i.naturalWidth > 0)"
    assert browser.execute_script(loaded) == [True] * 13  # the curves, and a panel each
    figures = browser.find_elements("css selector", ".panels figure")
    assert all(figure.is_displayed() for figure in figures)
    browser.find_element("css selector", "input[data-run='2']").click()
    assert [f.get_attribute("data-run") for f in figures if f.is_displayed()] == ["2"]

    said = browser.find_element("tag name", "body").text
    assert "0.003" in said
    assert REASON in said
    assert "The same in all: loss=removal experiment=quick" in said


def test_nothing_of_a_stranger_runs(strange, tmp_path, browser, composed):
    target = written(strange, tmp_path / "page.html", composed)
    assert target.stat().st_size < 300_000
    opened(browser, target)
    assert browser.title.startswith("Runs of")
    assert len(browser.find_elements("tag name", "script")) == 1
    images = browser.find_elements("tag name", "img")
    assert [image.get_attribute("class") for image in images] == ["curves"]
    said = browser.find_element("tag name", "body").text
    assert "document.title=" in said
    assert "not a picture" in said
    assert "\u202e" not in said


def test_the_browser_would_run_no_other_script(strange, tmp_path, browser, composed):
    target = written(strange, tmp_path / "page.html", composed)
    html = target.read_text().replace("</body>", f"{BAD}</body>")
    target.write_text(html)
    browser.get(target.as_uri())
    assert browser.title.startswith("Runs of")
    assert any("Content Security Policy" in line["message"] for line in browser.get_log("browser"))
