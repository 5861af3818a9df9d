"""MarkBench: frozen pictures, honest baselines, intervals, and out and back for any tool."""

import inspect
import json
import math
import runpy
import sys
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import OmegaConf

import benchmark
from clearmark.benchmark import BenchSample, checksum, cost, removers
from clearmark.benchmark import measure as measuring
from clearmark.config import create
from clearmark.errors import UserError
from clearmark.formation import blend, blend_linear
from clearmark.watermarks import Logo, Mark, Stamp, Text, Tiled

TINY = [
    *("markbench.version=tiny", "markbench.sizes.crop.samples=1"),
    *("markbench.sizes.whole.samples=0", "markbench.sizes.double.samples=0"),
    *("markbench.sizes.crop.geometry.height=96", "markbench.sizes.crop.geometry.width=112"),
]
RECORD = ROOT / "conf" / "markbench" / "v1.json"


def load(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return create(compose("benchmark", list(overrides)).markbench)


@pytest.fixture(scope="module")
def bench():
    return load()


@pytest.fixture(scope="module")
def prints(bench):
    return [checksum.fingerprint(sample) for sample in bench]


@pytest.fixture
def run(composed, tmp_path, monkeypatch):
    """Runs the benchmark on a set of one small picture a family, recorded beforehand."""
    monkeypatch.setattr(benchmark, "RECORDS", tmp_path)
    monkeypatch.setattr(measuring, "RESAMPLES", 100)

    def run(*given, freeze=True):
        if freeze and not (tmp_path / "tiny.json").exists():
            run("freeze=true", freeze=False)
        place = f"folder={tmp_path / 'run'}"
        return benchmark.benchmark(composed("benchmark", *TINY, place, *given))

    return run


def sample_of(clean, opacity, colour, linear=False):
    scaled = (values / 255 for values in (clean, opacity[..., None], colour))
    marked = np.rint(255 * (blend_linear if linear else blend)(*scaled)).astype(np.uint8)
    where = {"name": "0", "family": "f", "size": "s", "photo": "p", "linear": linear}
    return BenchSample(**where, marked=marked, clean=clean, opacity=opacity, colour=colour)


def level_psnr(image, clean):
    """PSNR by the definition, from whole numbers."""
    squared = ((image.astype(int) - clean.astype(int)) ** 2).mean()
    return min(10 * math.log10(255**2 / squared) if squared else math.inf, 58.92)


# The set


def test_the_pictures_are_the_frozen_ones(bench, prints):
    frozen = json.loads(RECORD.read_text())
    families = dict.fromkeys(p.family for p in prints)
    here = {name: checksum.digest([p for p in prints if p.family == name]) for name in families}
    assert here == frozen["families"]
    assert checksum.digest(prints) == frozen["sha256"]
    assert checksum.verify(prints, frozen) == "exact"
    edges = measuring.terciles(bench)
    np.testing.assert_allclose(edges, frozen["texture"], atol=1e-3)


def test_the_families_and_sizes_that_were_promised(bench, prints):
    wanted = {
        *("text", "logo", "tiled", "stamp", "grey", "coloured", "low_opacity", "high_opacity"),
        *("linear_light", "recompressed", "none"),
    }
    assert {p.family for p in prints} == wanted
    assert len(prints) == 11 * 28
    assert len({p.name for p in prints}) == len(prints)
    assert not any(family in p.name for p in prints for family in wanted)
    assert {(p.height, p.width) for p in prints} >= {(256, 256), (306, 489), (612, 978)}
    photos = [bench[i].photo for i in range(28)]
    assert len(set(photos)) == 28  # a family shows no photo twice


def test_the_order_of_asking_does_not_matter(bench, prints):
    other = load()
    for index in (301, 7, 150, 7, 40):
        assert checksum.fingerprint(other[index]) == prints[index]


def test_v1_states_every_parameter_of_its_marks():
    families = OmegaConf.to_container(OmegaConf.load(RECORD.with_suffix(".yaml")))["families"]
    marks = [mark for family in families.values() for mark in marks_in(family["watermark"])]
    assert len(marks) == 4 + 6 * 4 + 1
    for mark in marks:
        kind = get_class(mark["_target_"])
        taken = {*inspect.signature(kind).parameters, *inspect.signature(Mark).parameters}
        assert mark.keys() - {"_target_"} == taken - {"mark"}


def marks_in(node):
    return [mark for inner in node.get("transforms", []) for mark in marks_in(inner)] or [node]


class Drawn(NamedTuple):
    """A picture's number, and what there is of its mark: peak of 1, the others of 255."""

    number: int
    kind: type | None
    peak: float
    chroma: float  # how far it draws R, G and B apart at the most
    unexplained: float  # how far the picture lies from what the formation model says


@pytest.fixture(scope="module")
def families(bench):
    """Family -> what was drawn for each of its pictures."""
    kinds, original, found = [], Mark.get_params_dependent_on_data, {}

    def recorded(self, **given):
        kinds.append(type(self))
        return original(self, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mark, "get_params_dependent_on_data", recorded)
        for number in range(len(bench)):
            sample, kind = bench[number], kinds.pop() if kinds else None
            opacity, colour = sample.opacity / 255, sample.colour
            blending = blend_linear if sample.linear else blend
            formed = 255 * blending(sample.clean / 255, opacity[..., None], colour / 255)
            chroma = (np.ptp(colour.astype(int), axis=2) * opacity).max()
            unexplained = np.abs(formed - sample.marked).max()
            about = Drawn(number, kind, opacity.max(), chroma, unexplained)
            found.setdefault(sample.family, []).append(about)
    return found


def test_what_a_family_is(bench, families):
    kinds = {"text": {Text}, "logo": {Logo}, "tiled": {Tiled}, "stamp": {Stamp}, "none": {None}}
    for family, drawn in families.items():
        assert {d.kind for d in drawn} == kinds.get(family, {Text, Logo, Tiled, Stamp})
        assert all(bench[d.number].linear == (family == "linear_light") for d in drawn[::9])
        # Letters that are nowhere full fall short of the opacity that was drawn for them.
        low, high = {"low_opacity": (0.09, 0.3), "high_opacity": (0.58, 0.95)}.get(
            family, (0.3, 0.7)
        )
        if family != "none":
            assert all(low <= d.peak <= high + 0.5 / 255 for d in drawn)
            assert max(d.peak for d in drawn) > 0.9 * high
        if family != "recompressed":
            assert all(d.unexplained <= (1 if family == "linear_light" else 0.51) for d in drawn)
    assert not any(d.chroma for d in families["grey"])
    assert np.mean([d.chroma > 16 for d in families["coloured"]]) > 0.8
    for drawn in families["none"]:
        sample = bench[drawn.number]
        np.testing.assert_array_equal(sample.marked, sample.clean)
        assert not sample.mask.any()


def test_recompressed_is_another_picture_under_the_same_mark(bench, families):
    plain = load("~markbench.families.recompressed.degradation")
    for drawn in families["recompressed"]:
        sample, before = bench[drawn.number], plain[drawn.number]
        np.testing.assert_array_equal(sample.clean, before.clean)
        np.testing.assert_array_equal(sample.opacity, before.opacity)
        loss = level_psnr(sample.marked, before.marked)
        assert 20 < loss < 50  # a file of quality 50 to 95


def test_a_change_is_told_from_rounding(bench, prints):
    frozen = checksum.record(prints, (1, 2))
    assert checksum.verify(prints, frozen) == "exact"
    sample = bench[30]
    nudged = sample.marked.copy()
    nudged[5, 5, 0] ^= 1
    changed = [*prints]
    changed[30] = checksum.fingerprint(sample._replace(marked=nudged))
    assert checksum.verify(changed, frozen) == "rounded"
    changed[30] = checksum.fingerprint(sample._replace(marked=sample.marked[::-1]))
    with pytest.raises(UserError, match=r"1 of 308 differ, in logo; .*-c constraints\.txt"):
        checksum.verify(changed, frozen)
    with pytest.raises(UserError, match="not the frozen pictures"):
        checksum.verify(prints[:-1], frozen)


# The baselines


def test_doing_nothing_gains_nothing(bench):
    rows = measuring.measure([bench[i] for i in (0, 100, 300)], removers.nothing)
    assert rows["psnr_gain"][:2].tolist() == [0, 0]
    assert rows["noop_psnr"][2] == pytest.approx(58.92, abs=0.01)
    assert rows["noop_changed"][2] == 0
    assert rows.loc[2, ["rmsew", "psnr_gain"]].isna().all()


def test_the_inverse_beats_everything(bench):
    firsts = range(0, 308 - 56, 28)  # of every family but recompressed and none
    for sample in (bench[i] for i in firsts):
        found = {
            name: level_psnr(remover(sample)[0], sample.clean)
            for name, remover in removers.BASELINES.items()
        }
        best = found.pop("inverse")
        assert best > max(40, *found.values())


def test_the_inverse_by_brute_force(bench):
    for index in (1, 30, 130):
        sample = bench[index]
        assert sample.opacity.max() < 249  # beyond, invert holds the division
        a, marked, colour = (
            values.astype(object)
            for values in (sample.opacity[..., None], sample.marked, sample.colour)
        )
        kept = np.maximum(255 - a, 1)  # whole numbers of any length, so nothing is rounded
        clean = (2 * (255 * marked - a * colour) + kept) // (2 * kept)
        clean = np.clip(clean.astype(np.int64), 0, 255)
        restored, mask = removers.inverse(sample)
        assert np.abs(restored.astype(int) - clean).max() <= 1  # ties
        row = measuring.measure([sample], removers.inverse).iloc[0]
        assert row["psnr"] == pytest.approx(level_psnr(clean, sample.clean), abs=0.05)
        np.testing.assert_array_equal(mask, sample.opacity >= 2)


@pytest.mark.parametrize("opacity", [150, 200, 240])
def test_the_ceiling_that_rounding_leaves(opacity):
    # I is off by e, uniform over the fractions of 255 - a and a that whole levels can make; the
    # inverse is off by e / (1 - a), rounded to levels.
    generator = np.random.default_rng(0)
    shape = (128, 128, 3)
    clean, colour = (generator.integers(40, 216, shape).astype(np.uint8) for _ in range(2))
    sample = sample_of(clean, np.full(shape[:2], opacity, np.uint8), colour)
    steps = np.arange(255) / 255
    errors = (steps - np.rint(steps))[:: math.gcd(255, opacity)]
    squared = np.rint(errors * 255 / (255 - opacity)) ** 2
    row = measuring.measure([sample], removers.inverse).iloc[0]
    assert row["psnr"] == pytest.approx(10 * math.log10(255**2 / squared.mean()), abs=0.08)


def test_linear_light_is_inverted_in_linear_light():
    clean = np.full((32, 32, 3), 120, np.uint8)
    opacity, colour = np.full((32, 32), 128, np.uint8), np.full((32, 32, 3), 255, np.uint8)
    sample = sample_of(clean, opacity, colour, linear=True)
    assert np.abs(removers.inverse(sample)[0].astype(int) - 120).max() <= 1
    wrong = removers.inverse(sample._replace(linear=False))[0]
    assert np.abs(wrong.astype(int) - 120).max() > 10


def test_inpainting_leaves_what_is_not_marked(bench):
    sample = bench[0]
    for name in ("telea", "navier_stokes"):
        restored, _ = removers.BASELINES[name](sample)
        np.testing.assert_array_equal(restored[~sample.mask], sample.marked[~sample.mask])
        assert (restored[sample.mask] != sample.marked[sample.mask]).any()


# What is measured


def test_texture_of_a_ramp():
    ramp = np.add.outer(3 * np.arange(20), 4 * np.arange(20))
    clean = np.repeat(ramp.astype(np.uint8)[..., None], 3, 2)
    opacity = np.zeros((20, 20), np.uint8)
    assert math.isnan(measuring.texture(sample_of(clean, opacity, clean)))
    opacity[4:9, 4:9] = 99
    assert measuring.texture(sample_of(clean, opacity, clean)) == pytest.approx(5)


def test_groups_part_the_marked_pictures():
    generator = np.random.default_rng(0)
    rows = pd.DataFrame(generator.random((60, len(measuring.FIGURES))), columns=measuring.FIGURES)
    rows["photo"] = np.arange(60) % 20
    rows["family"], rows["size"] = "text", "crop"
    rows["opacity"], rows["area"] = generator.random(60), generator.random(60)
    rows["texture"] = np.arange(60)
    rows.loc[:4, "area"] = 0
    summary = measuring.summary(rows, [20, 40])
    counts = summary[summary["figure"] == "psnr"].set_index(["table", "group"])["samples"]
    assert counts["overall"].to_dict() == {"marked": 55, "unmarked": 5}
    for table in ("size", "opacity", "area", "texture"):
        assert counts[table].sum() == 55
    assert counts["texture"].to_dict() == {"smooth": 15, "medium": 20, "busy": 20}
    mean = rows.loc[5:, "psnr"].mean()
    assert summary.loc[0, "mean"] == pytest.approx(mean)


def drawn(photos, each=1):
    values = np.random.default_rng(photos).normal(30, 2, photos).repeat(each)
    return pd.Series(values), pd.Series(np.arange(photos).repeat(each))


def test_the_interval():
    widths = []
    for photos in (15, 60, 240):
        values, names = drawn(photos)
        mean, low, high = measuring.interval(values, names)
        assert low < mean < high
        assert mean == pytest.approx(values.mean())
        normal = 2 * 1.96 * values.std() / math.sqrt(photos)
        assert high - low == pytest.approx(normal, rel=0.15)
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]


def test_pictures_of_one_photo_are_no_evidence_of_their_own():
    once, often = measuring.interval(*drawn(40)), measuring.interval(*drawn(40, each=9))
    np.testing.assert_allclose(once, often, rtol=1e-9)


def test_the_interval_where_there_is_none():
    same = measuring.interval(pd.Series([2.0, 2.0]), pd.Series(["a", "b"]))
    assert same == (2, 2, 2)
    mean, low, high = measuring.interval(pd.Series([1.0, 2.0]), pd.Series(["a", "a"]))
    assert mean == 1.5
    assert math.isnan(low)
    assert math.isnan(high)


# The command


def test_memory_that_nobody_tells_is_no_zero(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "STATUS", tmp_path / "none")
    told = cost.measure_cost(removers.nothing, next(iter(bench)))
    assert math.isnan(told["peak_mb_per_mp"])
    assert told["seconds_per_mp"] >= 0


def test_a_network_leaves_all_tables(run, run_folder, tmp_path, capsys):
    summary = run(f"ckpt='{run_folder}'")
    assert list(dict.fromkeys(summary["table"])) == [
        *("overall", "family", "size", "opacity", "area", "texture")
    ]
    folder = tmp_path / "run"
    rows, means = pd.read_csv(folder / "pictures.csv"), pd.read_csv(folder / "summary.csv")
    assert len(rows) == 11
    pd.testing.assert_frame_equal(means, summary, check_dtype=False)
    marked = rows[rows["family"] != "none"]
    assert means.loc[0, "mean"] == pytest.approx(marked["psnr"].mean())
    figures = json.loads((folder / "results.json").read_text())
    assert figures["parameters"] > 1000
    assert figures["gmac"] > 0
    assert figures["seconds_per_mp"] > 0
    if sys.platform == "linux":
        assert 3 < figures["peak_mb_per_mp"] < 5000  # it returns 3 bytes a pixel at least
    report, said = (folder / "report.md").read_text(), capsys.readouterr().out
    assert f"| {means.loc[0, 'mean']:.2f}" in report
    assert f"| {means.loc[0, 'mean']:.2f}" in said
    assert cv2.imread(str(folder / "examples.png")).std() > 10


@pytest.mark.slow
def test_out_and_back_is_doing_nothing(run, tmp_path):
    run(f"export='{tmp_path / 'my set'}'")
    folder = tmp_path / "my set"
    names = pd.read_csv(folder / "manifest.csv")["name"]
    assert sorted(p.stem for p in (folder / "marked").iterdir()) == sorted(names)
    assert json.loads((tmp_path / "tiny.json").read_text())["sha256"] in (
        folder / "README.md"
    ).read_text("utf-8")
    back = run(f"outputs='{folder / 'marked'}'")
    pd.testing.assert_frame_equal(back, run("baseline=nothing"), check_exact=True)
    gains = back[back["figure"] == "psnr_gain"][["mean", "low", "high"]]
    assert (gains.fillna(0) == 0).all(None)  # one photo has a mean and no interval
    for path in (folder / "mask").iterdir():
        path.rename(folder / "marked" / f"{path.stem}_mask.png")
    back = run(f"outputs='{folder / 'marked'}'").set_index(["table", "group", "figure"])
    assert back.loc[("overall", "marked", "mask_f1"), "mean"] == 1


def test_outputs_that_do_not_fit(run, tmp_path):
    run(f"export='{tmp_path / 'out'}'")
    folder = tmp_path / "out" / "marked"
    (first, second, third, *_) = sorted(folder.iterdir())
    first.unlink()
    cv2.imwrite(str(second), np.zeros((10, 12, 3), np.uint8))
    third.write_bytes(b"\x89PNG")
    cv2.imwrite(str(folder / "mine.png"), np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(UserError) as raised:
        run(f"outputs='{folder}'")
    said = str(raised.value)
    for words in (
        f"1 missing ({first.stem})",
        "1 not of this set (mine.png)",
        f"{second.name} is 10x12, not 96x112",
        f"1 unreadable ({third.name})",
    ):
        assert words in said
    assert "\n" not in said
    cv2.imwrite(str(folder / f"{second.stem}.jpg"), np.zeros((96, 112, 3), np.uint8))
    with pytest.raises(UserError, match="leave one of them"):
        run(f"outputs='{folder}'")


def test_a_set_is_recorded_once_and_only_then_used(run):
    with pytest.raises(UserError, match="freeze=true"):
        run("baseline=nothing", freeze=False)
    run("freeze=true", freeze=False)
    with pytest.raises(UserError, match="a version does not change"):
        run("freeze=true", freeze=False)
    with pytest.raises(UserError, match="not the frozen pictures"):
        run("baseline=nothing", "markbench.seed=1")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ([], ["nothing to do", "ckpt=", "baseline="]),
        (["baseline=nothing", "outputs=a"], ["outputs and baseline exclude each other"]),
        (["baseline=best"], ["baseline=best", "telea"]),
        (["outputs=a b,c"], ["outputs=a b,c is not a folder"]),
        (["export=."], ["export=. holds something already"]),
        (["ckpt=missing"], ["ckpt=missing does not exist"]),
        (["baseline=nothing", "markbench=v0"], ["markbench=v0", "there are v1"]),
        (["baselin=nothing"], ["baselin", "did you mean baseline?"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_command_gets_one_line(typed, words, monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *typed, f"hydra.run.dir={tmp_path}"])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "src" / "benchmark.py"), run_name="__main__")
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert left.value.code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
