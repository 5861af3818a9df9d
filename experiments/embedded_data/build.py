"""Makes the photos, icons, fonts and CREDITS.tsv that travel inside the package.

Run ``python experiments/embedded_data/build.py SOURCE``, where SOURCE holds PHOTOS.tsv, ICONS.tsv
and FONTS.tsv (licence and author of each file) beside photos/, icons/ and fonts/. What was left
out, kept together or put into a split by hand stands in choices.tsv, authors in authors.tsv.
The phrases, LICENSES/ and README.md of the assets are written by hand and left as they are.
"""

import argparse
import csv
import hashlib
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
ASSETS = HERE.parents[1] / "src" / "clearmark" / "assets"
SHARES = {"train": 0.70, "val": 0.12, "test": 0.18}
PHOTO_SIDE = 306  # pixels of the short side: room for a 256-pixel crop
PHOTO_QUALITY = 86
ICON_SIDE = 128  # pixels of the long side
# Sites, agencies and stand-ins that name no photographer: their photos are grouped by scene.
NO_AUTHOR = re.compile(r"$|Various|N/A|Public Domain|Pixabay|Burst|Flickr|\(wesaturate|NASA")
ROW = ("path", "split", "package", "original", "author", "licence", "changes")


@dataclass(frozen=True)
class Item:
    """One source file: where it stands in the walk (stratum) and what it must stay with (group)."""

    file: str
    stratum: str
    group: str
    package: str
    original: str
    author: str
    licence: str


def read_tsv(path: Path) -> list[dict[str, str]]:
    """The rows of a table with tabs between its columns, by the names in its first line."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def scene(file: str) -> str:
    """What a photo shows, after its name: endless-sky-city10.jpg -> endless-sky-city."""
    stem = re.sub(r"-(sfiera|striker)$", "", Path(file).stem)
    return re.sub(r"[-_]?\d*x?$", "", stem)


def glyph(icon: str) -> str:
    """The first word of an icon's name: battery-minus and battery-pack-alt are both battery."""
    return icon.split("-")[0]


def read_items(source: Path, kind: str, authors: dict[str, str]) -> list[Item]:
    """The files of one kind (photos, icons or fonts) as SOURCE lists them."""
    items = []
    for row in read_tsv(source / f"{kind.upper()}.tsv"):
        file, package = row["file"], row["package"]
        author = row.get("author") or authors.get(file) or authors.get(package, "")
        author = re.sub(r" <[^>]*@[^>]*>", "", author)  # credit names, not mail addresses
        original = row.get("original_path") or row.get("icon") or file
        if kind == "photos":
            stratum = scene(file)
            group = stratum if NO_AUTHOR.match(author) else author
        elif kind == "icons":
            stratum, group = package, glyph(row["icon"])
        else:
            stratum, group = package, file
        items.append(Item(file, stratum, group, package, original, author, row["licence"]))
    return items


def allot(groups: dict[str, list[Item]], pinned: dict[str, str]) -> dict[str, str]:
    """The split of each group: pinned ones first, then each to the split farthest below its share.

    The walk goes stratum by stratum (a scene, an icon pack), so that each split gets its part of
    every stratum; within one the order is that of a hash, which favours no name.
    """
    split = {name: pinned[name] for name in groups if name in pinned}
    total = sum(len(items) for items in groups.values())
    left = {name: SHARES[name] * total for name in SHARES}
    for name, where in split.items():
        left[where] -= len(groups[name])
    wanted = {name: max(room, 1.0) for name, room in left.items()}
    taken = dict.fromkeys(SHARES, 0)

    def place(name: str) -> tuple[str, str]:
        return groups[name][0].stratum, hashlib.sha256(name.encode()).hexdigest()

    for name in sorted(set(groups) - set(split), key=place):
        size = len(groups[name])
        split[name] = min(SHARES, key=lambda where: (taken[where] + size / 2) / wanted[where])
        taken[split[name]] += size
    return split


def write_photo(source: Path, target: Path) -> str:
    """Save a photo small and without metadata; returns what was changed."""
    image = Image.open(source).convert("RGB")
    scale = min(1.0, PHOTO_SIDE / min(image.size))
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.BOX).save(
        target, quality=PHOTO_QUALITY, subsampling="4:2:0", optimize=True
    )
    return f"resized to {size[0]}x{size[1]}, saved again as JPEG without metadata"


def write_icon(source: Path, target: Path) -> str:
    """Save a colour icon as RGBA, a one-colour icon as its grey matte; returns what was changed."""
    image = Image.open(source)
    colour = image.mode == "RGBA"
    icon = image if colour else image.getchannel("A")
    scale = min(1.0, ICON_SIDE / max(icon.size))
    size = (round(icon.width * scale), round(icon.height * scale))
    icon.resize(size, Image.Resampling.BOX).save(target, optimize=True)
    return f"drawn as a {size[0]}x{size[1]} PNG" + ("" if colour else ", kept as a grey matte")


def write_font(source: Path, target: Path) -> str:
    """Copy a font as it is; returns what was changed."""
    shutil.copyfile(source, target)
    return "none"


WRITERS = {"photos": write_photo, "icons": write_icon, "fonts": write_font}


def build(source: Path) -> None:
    """Replace the photos, icons, fonts and CREDITS.tsv of the package by those of ``source``."""
    choices: dict[str, dict[str, str]] = defaultdict(dict)
    for row in read_tsv(HERE / "choices.tsv"):
        choices[row["choice"]][row["of"]] = row["value"]
    authors = {row["of"]: row["author"] for row in read_tsv(HERE / "authors.tsv")}
    credits = []
    for kind, write in WRITERS.items():
        shutil.rmtree(ASSETS / kind, ignore_errors=True)
        groups: dict[str, list[Item]] = defaultdict(list)
        for item in read_items(source, kind, authors):
            if item.file not in choices["drop"]:
                group = choices["group"].get(item.file) or item.group
                groups[choices["group"].get(group, group)].append(item)
        split = allot(groups, choices["split"])
        for name, item in ((name, item) for name, items in groups.items() for item in items):
            target = ASSETS / kind / split[name] / item.file
            target.parent.mkdir(parents=True, exist_ok=True)
            changes = write(source / kind / item.file, target)
            path = target.relative_to(ASSETS).as_posix()
            facts = (item.package, item.original, item.author or "not named", item.licence)
            credits.append((path, split[name], *facts, changes))
    lines = ["\t".join(row) for row in (ROW, *sorted(credits))]
    (ASSETS / "CREDITS.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder with PHOTOS.tsv, ICONS.tsv, FONTS.tsv")
    build(parser.parse_args().source)
