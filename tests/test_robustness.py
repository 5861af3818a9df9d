"""How well a mark holds: the detector against brute force and chance, the figures, the advice."""

import itertools
import math
from functools import partial

import cv2
import numpy as np
import pandas as pd
import pytest
import tiny
from hydra.errors import InstantiationException

import robustness
from clearmark import cli
from clearmark.data import PhotosModule
from clearmark.errors import UserError
from clearmark.metrics import PSNR_CEILING
from clearmark.robustness.advice import advice, choices, table
from clearmark.robustness.detector import COARSE, FINE, ROUNDING, Detector, Grid, threshold
from clearmark.robustness.measure import (
    NOTHING,
    SETTING,
    Marker,
    Setting,
    calibrate,
    measure,
    settings,
)
from clearmark.watermarks import Own

SIDE = 128


@pytest.fixture(scope="module")
def marker():
    """A white line of text on the embedded photos."""
    data = PhotosModule(Own("Jane Doe"), size=SIDE, crop=SIDE, short_side=256)
    return Marker(partial(Own, "Jane Doe"), data, None, seed=0)


def clean(marker, split, count):
    samples = marker.samples(split, None)
    return [samples[0, index]["marked"] for index in range(count)]


def drawn(rows=7, columns=10):
    """A mark of two colours, soft on one side."""
    matte = np.full((rows, columns), 255, np.uint8)
    matte[:, : columns // 3], matte[2:4, 4:6] = 120, 0
    colour = np.zeros((rows, columns, 3), np.uint8)
    colour[: rows // 2], colour[rows // 2 :] = (250, 200, 10), (0, 30, 180)
    return matte, colour


def brute(picture, matte, colour, starts):
    """The score with copies at ``starts`` (top, left), pixel by pixel as the docstring has it."""

    def blurred(values, sigma):
        return cv2.GaussianBlur(values, (0, 0), sigma)

    values, share, rim = picture / 255.0, matte / 255.0, math.ceil(3 * FINE)
    plain = np.pad(share, rim)
    light = np.pad(share[..., None] * (colour / 255.0), ((rim, rim), (rim, rim), (0, 0)))
    plain, light = plain - blurred(plain, FINE), light - blurred(light, FINE)
    detail, around = values - blurred(values, FINE), blurred(values, COARSE)
    variance = blurred((detail**2).mean(2), COARSE) + ROUNDING**2
    height, width = picture.shape[:2]
    top = bottom = 0.0
    for row, column in starts:
        for y, x in itertools.product(*map(range, plain.shape)):
            at = row - rim + y, column - rim + x
            if 0 <= at[0] < height and 0 <= at[1] < width:
                trace = light[y, x] - around[at] * plain[y, x]
                top += (trace * detail[at]).sum() / variance[at]
                bottom += (trace**2).sum() / variance[at]
    return top / math.sqrt(bottom) if bottom else -math.inf


def test_the_score_is_that_of_the_best_place():
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    matte, colour = drawn()
    places = itertools.product(range(20 - 7 + 1), range(24 - 10 + 1))
    best = max(brute(picture, matte, colour, [place]) for place in places)
    assert Detector(matte, colour).score(picture) == pytest.approx(best, rel=1e-4)


def test_the_score_of_a_grid_is_that_of_its_best_start():
    picture = np.random.default_rng(1).integers(0, 256, (12, 15, 3), np.uint8)
    matte, colour = drawn(3, 4)
    scores = []
    for shift, top, left in itertools.product((0, 7 // 2), range(10), range(7)):
        rows = range(top - 20, 12 + 5, 5)
        columns = range(left - 21, 15 + 7, 7)
        starts = [(r, c + shift * (n % 2)) for n, r in enumerate(rows) for c in columns]
        scores.append(brute(picture, matte, colour, starts))
    assert Detector(matte, colour, Grid(5, 7)).score(picture) == pytest.approx(
        max(scores), rel=1e-4
    )


@pytest.mark.parametrize("place", ["middle", "tiled"])
def test_the_score_of_a_mark_is_had_where_it_lies(place):
    """Of a picture with a mark, the brute force at the true place gives the same score."""
    matte, colour = drawn(5, 8)
    grid, shape = (9, 13), (31, 45)
    clear = cv2.resize(
        np.random.default_rng(2).integers(0, 256, (4, 4, 3), np.uint8), shape[::-1]
    ).astype(float)
    starts = [(0, 0)]  # where the blur of the mark reaches beyond the picture
    if place == "tiled":
        starts = [
            (4 + 9 * row, -20 + 13 * column + 6 * (row % 2))
            for row, column in itertools.product(range(-2, 4), range(6))
        ]
    wide = np.zeros((shape[0] + 80, shape[1] + 80, 4))
    for row, column in starts:
        window = slice(40 + row, 45 + row), slice(40 + column, 48 + column)
        wide[window] = np.dstack([colour, matte / 255])
    wide = wide[40:-40, 40:-40]
    picture = clear + 0.5 * wide[..., 3:] * (wide[..., :3] - clear)
    picture = picture.round().astype(np.uint8)
    found = Detector(matte, colour, Grid(*grid) if place == "tiled" else None).score(picture)
    assert found == pytest.approx(brute(picture, matte, colour, starts), rel=1e-4)


def test_the_threshold_is_exceeded_by_the_rate_asked_for():
    scores = list(range(1, 100))
    assert threshold(scores, 0.01) == 99
    assert threshold(scores, 0.0199) == 99
    assert threshold(scores, 0.05) == 95
    assert threshold(list(range(199)), 0.01) == 197
    with pytest.raises(ValueError, match="98 scores are too few"):
        threshold(scores[1:], 0.01)
    draws = np.random.default_rng(0).standard_normal((4000, 60))
    alarms = [row[-1] > threshold(row[:-1].tolist(), 0.05) for row in draws]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.011)  # 3 standard deviations


@pytest.fixture(scope="module")
def detector(marker):
    detector = marker.detector(Setting("middle", 0.5, 0.0, 0.5))
    calibrate(detector, clean(marker, "train", 119), 0.05)
    return detector


def test_false_alarms_on_photos_it_was_not_calibrated_on(marker, detector):
    alarms = sum(detector.score(photo) > detector.threshold for photo in clean(marker, "test", 124))
    assert 1 <= alarms <= 14  # 6.2 expected; 14 or less by chance in 99.6 %


@pytest.mark.parametrize("place", ["middle", "tiled"])
def test_a_mark_that_nobody_touched_is_found_the_better_the_stronger_it_is(marker, place):
    detector = marker.detector(Setting(place, 0.4, 0.5, 0.5))
    calibrate(detector, clean(marker, "train", 39), 0.05)
    scores = []
    for opacity in (0.03, 0.1, 0.3, 0.7):
        samples = marker.samples("test", Setting(place, 0.4, 0.5, opacity))
        scores.append([detector.score(samples[0, index]["marked"]) for index in range(30)])
    found = (np.array(scores) > detector.threshold).mean(1)
    assert (np.diff(found) >= 0).all()
    assert (np.diff(np.median(scores, axis=1)) > 0).all()
    assert found[0] < 1 or place == "tiled"
    assert found[-1] >= 0.96


def test_what_a_perfect_and_an_idle_remover_leave(marker, detector):
    setting = Setting("rim", 0.5, 0.0, 0.4)
    removers = {"perfect": lambda s: s["clean"], "idle": lambda s: s["marked"].copy()}
    samples, found = marker.samples("test", setting), []
    for index in range(12):
        sample = samples[0, index]
        rows = {row.pop("remover"): row for row in measure(sample, detector, removers)}
        assert rows["idle"] == rows[NOTHING]
        found.append([rows["idle"]["found"], rows["perfect"]["found"]])
        perfect = rows["perfect"]
        assert perfect["psnr"] == perfect["psnr_mark"] == pytest.approx(PSNR_CEILING)
        assert perfect["ssim_mark"] == perfect["ssim_around"] == pytest.approx(1, abs=1e-5)
        # I - J = a (W - J), and around the mark nothing.
        opacity = sample["opacity"] / 255.0
        error = opacity[..., None] * (sample["colour"] / 255.0 - sample["clean"] / 255.0)
        inside = -10 * np.log10((error[opacity > 1.5 / 255] ** 2).mean())
        assert rows["idle"]["psnr_mark"] == pytest.approx(inside, abs=0.05)
        assert rows["idle"]["psnr"] == pytest.approx(-10 * np.log10((error**2).mean()), abs=0.05)
        assert rows["idle"]["psnr_around"] == pytest.approx(PSNR_CEILING)
    assert np.mean(found, axis=0)[0] >= 0.9
    assert np.mean(found, axis=0)[1] <= 0.17


def test_settings_share_crops_and_places(marker):
    weak, strong = (marker.samples("test", Setting("rim", 0.5, 0.0, a))[0, 3] for a in (0.2, 0.8))
    assert (weak["clean"] == strong["clean"]).all()
    assert ((strong["opacity"] > 12) == (weak["opacity"] > 3)).mean() > 0.999
    assert strong["opacity"].max() == 204
    assert (marker.samples("test", None)[0, 3]["marked"] == weak["clean"]).all()


def figures(rows):
    """The means of two networks: (setting, psnr of the marked, found after a and after b)."""
    table = []
    for setting, psnr, *found in rows:
        for name, share in zip((NOTHING, "a", "b"), (1.0, *found), strict=True):
            shown = dict.fromkeys(("ssim", "psnr_mark", "ssim_mark", "ssim_around"), 0.5)
            known = {"remover": name, "psnr": psnr, "found": share, "psnr_around": math.nan}
            table.append(dict(zip(SETTING, setting, strict=True)) | known | shown)
    return pd.DataFrame(table)


WEAK, LARGE = ("middle", 0.25, 0.0, 0.2), ("middle", 0.5, 0.0, 0.4)
RIM, TILES = ("rim", 0.25, 0.0, 0.4), ("tiled", 0.25, 0.5, 0.2)


def test_the_least_visible_setting_that_holds_against_every_network():
    means = figures(
        [
            (WEAK, 45.0, 1.0, 0.7),
            (LARGE, 30.0, 1.0, 1.0),
            (RIM, 40.0, 0.8, 0.9),
            (TILES, 35.0, 0, 1),
        ]
    )
    rows = choices(means, 0.8)
    assert [tuple(row) for row in rows[SETTING].to_numpy()] == [WEAK, RIM, TILES, LARGE]
    assert rows["holds"].tolist() == [False, True, False, True]
    assert rows["found"].tolist() == [0.7, 0.8, 0.0, 1.0]
    lines = advice(means, 0.8, 0.01)
    assert "1.0% of clean photos" in lines[0]
    assert "80% of the photos" in lines[0]
    assert "2 of 4 settings hold" in lines[1]
    assert "rim, size 0.25, opacity 0.4 (PSNR 40.0 dB" in lines[1]
    assert "after a found in 80%" in lines[1]
    assert "middle, size 0.5, opacity 0.4" in lines[2]
    assert lines[3] == "Tiled, no setting holds."
    assert "cut off" in lines[4]


def test_none_holds():
    lines = advice(figures([(WEAK, 45.0, 0.2, 0.3), (TILES, 35.0, 0.6, 0.5)]), 0.8, 0.01)
    assert len(lines) == 2
    assert lines[1].startswith("None of the 2 settings holds. Tiled, size 0.25 with gaps of 0.5, ")
    assert "found in 50%" in lines[1]


def test_of_equal_psnr_the_higher_ssim_is_less_visible():
    means = figures([(WEAK, 40.0, 1.0, 1.0), (RIM, 40.0, 1.0, 1.0)])
    means.loc[means["place"] == "rim", "ssim"] = 0.9
    assert choices(means, 0.8)["place"].tolist() == ["rim", "middle"]


def test_the_table_leaves_empty_what_is_not_known():
    lines = table(figures([(TILES, 35.0, 0.25, 0.5)])).splitlines()
    assert (
        lines[3] == "| tiled | 0.25 | 0.5 | 0.2 | a | 35.0 | 0.500 | 0.5 | 0.500 |  | 0.500 | 25% |"
    )


MARK = "mark=Jane Doe"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "mark is not set; add one of them, as mark=logo.png or text="),
        ("mark=Jane text=Jane", "mark and text are both set"),
        ("mark=none.png", "mark=none.png does not exist"),
        ("mark=Jane positions=[left]", "positions=['left'] are unknown; use middle, rim"),
        ("mark=Jane positions=[] spacings=[]", "leave nothing to do"),
        ("mark=Jane spacings=[-1]", "spacings=[-1] are not allowed"),
        ("mark=Jane opacities=[0.5,1.5]", "opacities=[0.5, 1.5] is not allowed"),
        ("mark=Jane opacities=[]", "opacities=[] is not allowed"),
        ("mark=Jane sizes=0", "sizes=0 is not allowed"),
        ("mark=Jane photos=0", "photos=0 is not allowed"),
        ("mark=Jane holds=2", "holds=2 is not allowed"),
        ("mark=Jane calibration=98", "calibration=98 clean photos cannot tell"),
        ("mark=Jane colour=pink", "colour=pink is unknown; use white, grey, black"),
        ("mark=Jane ckpt=unett", "did you mean ckpt=unet?"),
        ("mark=Jane watermark.font=none.ttf", "watermark.font=none.ttf does not exist"),
        ("mark=Jane_Doe_and_Sons data.size=64", "more than data.size=64"),
        ("mark=Jane data=folder data.root=none", "data.root=none is not a folder"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_written(typed, said, composed, tmp_path):
    folder = tmp_path / "run"
    cfg = composed("robustness", *typed.split(), f"folder={folder}")
    with pytest.raises((UserError, InstantiationException)) as caught:
        robustness.robustness(cfg)
    line = cli._line(caught.value)
    assert said in line
    assert "\n" not in line
    assert not folder.exists()


def test_every_combination_is_a_setting(composed):
    cfg = composed("robustness", MARK, "opacities=0.3", "spacings=[0.2,1]", "positions=rim")
    rim = [Setting("rim", size, 0.0, 0.3) for size in (0.25, 0.5)]
    assert settings(cfg) == [*rim, *(Setting("tiled", 0.25, gap, 0.3) for gap in (0.2, 1))]


def test_the_command_leaves_the_same_figures_each_time(composed, tmp_path, run_folder, capsys):
    photos = tiny.photos(tmp_path / "photos", 40)
    few = ["photos=2", "calibration=9", "false_alarms=0.1", "opacities=[0.3,0.9]", "sizes=0.6"]
    few += ["data=folder", f"data.root={photos}", "data.size=64", f"ckpt='{run_folder}'"]
    tables = []
    for word, folder in (("mark", tmp_path / "one"), ("text", tmp_path / "other")):
        cfg = composed("robustness", f"{word}='$5, © Jane'", *few, "threads=1", f"folder={folder}")
        means = robustness.robustness(cfg)
        tables.append((folder / "settings.csv").read_text())
    assert tables[0] == tables[1]
    assert len(means) == 12  # middle, rim and tiled, two opacities, marked and restored
    assert means["photos"].eq(2).all()
    picture = cv2.imread(str(folder / "figure.png"))
    assert picture.std() > 10
    report = (folder / "report.md").read_text()
    assert report.startswith("# How well $5, © Jane holds\n")
    said = capsys.readouterr().out
    assert "settings hold" in said
    assert str(folder / "report.md") in said
