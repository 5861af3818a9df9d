"""The embedded data: nothing is in two splits, everything is credited, readable and small."""

import csv
import re
from collections import defaultdict
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image, ImageFont

import clearmark

ASSETS = Path(clearmark.__file__).parent / "assets"
SPLITS = ("train", "val", "test")
# Stand-ins that name no photographer: their photos are told apart by scene instead.
NO_AUTHOR = re.compile(r"not named|Various|N/A|Public Domain|Pixabay|Burst|Flickr|\(|NASA")
# Words that every photographer writes; all other words belong to one split.
COMMON_WORDS = {"copy", "example", "for", "image", "images", "img", "not", "only", "photo"}
COMMON_WORDS |= {"photography", "pictures", "print", "studio", "use", "www", "фото"}


@lru_cache
def credits() -> tuple[dict[str, str], ...]:
    with (ASSETS / "CREDITS.tsv").open(encoding="utf-8", newline="") as lines:
        return tuple(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def credited(kind: str) -> list[dict[str, str]]:
    return [row for row in credits() if row["path"].startswith(f"{kind}/")]


def files(kind: str, split: str) -> list[Path]:
    return sorted(path for path in (ASSETS / kind / split).iterdir())


def phrases(split: str) -> list[str]:
    return (ASSETS / "phrases" / f"{split}.txt").read_text(encoding="utf-8").splitlines()


def words(split: str) -> set[str]:
    found = re.findall(r"[^\W\d_]{3,}", "\n".join(phrases(split)).casefold())
    return set(found) - COMMON_WORDS


def photo_group(row: dict[str, str]) -> str:
    if not NO_AUTHOR.match(row["author"]):
        return row["author"]
    return re.sub(r"(-sfiera|-striker)?$", "", Path(row["path"]).stem).rstrip("0123456789x-_")


def family(path: Path) -> str:
    name = TTFont(path, lazy=True)["name"].getDebugName(1)
    return name.split()[0].split("_")[0]


def assert_disjoint(groups: dict[str, set[str]]) -> None:
    for one, other in combinations(SPLITS, 2):
        assert not groups[one] & groups[other], f"in {one} and in {other}"


def test_photos_of_one_author_or_scene_are_in_one_split() -> None:
    groups = defaultdict(set)
    for row in credited("photos"):
        groups[row["split"]].add(photo_group(row))
    assert_disjoint(groups)


def test_no_photo_resembles_one_of_another_split() -> None:
    def perceptual_hash(path: Path) -> np.ndarray:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None, path
        small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
        low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()[1:]
        return low > np.median(low)

    hashes = {s: np.array([perceptual_hash(p) for p in files("photos", s)]) for s in SPLITS}
    for one, other in combinations(SPLITS, 2):
        distance = (hashes[one][:, None] != hashes[other][None]).sum(axis=-1)
        assert distance.min() > 10, np.argwhere(distance <= 10)


def test_icons_that_begin_with_one_word_are_in_one_split() -> None:
    groups = defaultdict(set)
    for row in credited("icons"):
        groups[row["split"]].add(row["original"].split("-")[0])
    assert_disjoint(groups)


def test_a_font_family_is_in_one_split() -> None:
    assert_disjoint({split: {family(path) for path in files("fonts", split)} for split in SPLITS})


def test_phrases_share_no_line_and_no_word() -> None:
    assert_disjoint({split: {line.casefold() for line in phrases(split)} for split in SPLITS})
    assert_disjoint({split: words(split) for split in SPLITS})


def test_every_file_is_credited_and_every_credit_has_its_file() -> None:
    found = {
        path.relative_to(ASSETS).as_posix()
        for kind in ("photos", "icons", "fonts")
        for split in SPLITS
        for path in files(kind, split)
    }
    listed = [row["path"] for row in credits()]
    assert sorted(listed) == sorted(found)
    for row in credits():
        assert row["path"].split("/")[1] == row["split"]
        assert all(row[column] for column in ("package", "original", "author", "licence"))


@pytest.mark.parametrize("split", SPLITS)
def test_photos_decode_and_hold_a_crop_of_256(split: str) -> None:
    for path in files("photos", split):
        with Image.open(path) as image:
            assert image.mode == "RGB", path
            assert min(image.size) >= 256, path
            assert not image.getexif(), path
            image.load()


@pytest.mark.parametrize("split", SPLITS)
def test_icons_decode_and_are_not_empty(split: str) -> None:
    for path in files("icons", split):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None, path
        assert max(image.shape[:2]) <= 128, path
        assert image.ndim == 2 or image.shape[2] == 4, path
        matte = image if image.ndim == 2 else image[..., 3]
        assert matte.mean() > 2, path


def drawable(path: Path, letters: set[str]) -> set[str]:
    """The letters that a font draws: one it maps can still be blank (AoyagiKouzanT has such)."""
    mapped = TTFont(path, lazy=True).getBestCmap()
    face = ImageFont.truetype(str(path), 32)
    return {c for c in letters if c == " " or (ord(c) in mapped and face.getmask(c).getbbox())}


@pytest.mark.parametrize("split", SPLITS)
def test_every_phrase_has_a_font_of_its_split(split: str) -> None:
    lines = phrases(split)
    letters = set("".join(lines))
    fonts = [drawable(path, letters) for path in files("fonts", split)]
    for line in lines:
        assert line, split
        assert line.strip() == line
        assert any(set(line) <= drawn for drawn in fonts), line
    assert all(any(set(line) <= drawn for line in lines) for drawn in fonts), "an idle font"


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("script", ["é", "Ж", "Σ"])
def test_every_split_writes_accents_cyrillic_and_greek(split: str, script: str) -> None:
    block = ord(script) & ~0x7F
    assert any(block <= ord(c) < block + 0x80 for line in phrases(split) for c in line)


def test_size() -> None:
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    drawn = [path for path in files if not path.is_relative_to(ASSETS / "models")]
    assert sum(path.stat().st_size for path in drawn) <= 20e6
