"""Seconds and memory of ``predict.py`` on large pictures; what tiles change against the whole.

python experiments/large_pictures/measure.py cost --megapixels 1 10 100
python experiments/large_pictures/measure.py seam
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "src" / "clearmark" / "assets"


def cost(megapixels: list[float]) -> None:
    """Run the command that a user types on marked JPEGs, one process each."""
    print("| megapixels | seconds | seconds a megapixel | peak memory (MB) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in megapixels:
            photo, clean = Path(folder, "photo.jpg"), Path(folder, "clean.jpg")
            # In a process of its own: a child's peak begins at what its parent holds.
            made = [sys.executable, __file__, "picture", str(size), str(photo)]
            subprocess.run(made, check=True)
            command = [sys.executable, str(ROOT / "src" / "predict.py")]
            start = time.perf_counter()
            child = subprocess.Popen(
                [*command, f"input={photo}", f"output={clean}", "overwrite=true", "device=cpu"],
                stdout=subprocess.DEVNULL,
            )
            _, status, usage = os.wait4(child.pid, 0)
            took = time.perf_counter() - start
            if status:
                raise SystemExit(f"predict.py ended with {status}")
            row = (size, took, took / size, usage.ru_maxrss * 1024 / 1e6)  # Linux counts in KiB
            print("| {:g} | {:.1f} | {:.2f} | {:.0f} |".format(*row), flush=True)


def seam(megapixels: float) -> None:
    """Restore a picture whole and in tiles."""
    import numpy as np

    from clearmark import load
    from clearmark.inference import OVERLAP, TILE, restore

    image = picture(megapixels)
    print("| network | tile | overlap | largest difference (of 255) | differing values | mask |")
    print("|---|---|---|---|---|---|")
    for name in ("unblend", "unet"):
        network = load(name, "cpu").network
        whole, mask = restore(network, image, whole=image.size)
        for tile, overlap in [(768, 64), (832, 128), (960, 256), (1024, 320), (TILE, OVERLAP)]:
            tiled, tiled_mask = restore(network, image, 0, tile, overlap)
            apart = np.abs(whole.astype(int) - tiled)
            assert mask is not None
            assert tiled_mask is not None
            row = (apart.max(), 100 * (apart > 0).mean(), np.abs(mask - tiled_mask).max())
            print(f"| {name} | {tile} | {overlap} | " + "{} | {:.4f} % | {:.5f} |".format(*row))


def picture(megapixels: float) -> np.ndarray:
    """(H, W, 3) uint8, 4:3: test photos at twice their size, with a name all over them."""
    import cv2
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    side = 612  # of a photo
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(megapixels * 1e6 / height)
    letters = ImageFont.truetype(str(ASSETS / "fonts" / "train" / "Roboto-Medium.ttf"), 60)
    photos = [_square(cv2.imread(str(p)), side) for p in sorted((ASSETS / "photos/test").iterdir())]
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, side):
        drawn = Image.new("L", (width, side))
        for line, y in enumerate(range(40, side, 190)):
            for x in range(-150 * (line + top // side), width, 450):
                ImageDraw.Draw(drawn).text((x, y), "© Jane Doe", fill=128, font=letters)
        opacity = (np.asarray(drawn) / np.float32(255))[..., None]
        for left in range(0, width, side):
            clean = photos[(left + 31 * top) // side % len(photos)]
            cell = image[top : top + side, left : left + side]
            high, wide = cell.shape[:2]
            share = opacity[:high, left : left + wide]
            cell[:] = np.rint(clean[:high, :wide] * (1 - share) + 255 * share)
    return image


def _square(photo: np.ndarray, side: int) -> np.ndarray:
    import cv2

    least = min(photo.shape[:2])
    square = photo[:least, :least, ::-1]
    return cv2.resize(square, (side, side), interpolation=cv2.INTER_CUBIC)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    kinds = parser.add_subparsers(dest="what", required=True)
    kinds.add_parser("cost").add_argument("--megapixels", type=float, nargs="+", default=[1, 10])
    kinds.add_parser("seam").add_argument("--megapixels", type=float, default=4)
    one = kinds.add_parser("picture")
    one.add_argument("megapixels", type=float)
    one.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.what == "cost":
        cost(given.megapixels)
    elif given.what == "seam":
        seam(given.megapixels)
    else:
        from PIL import Image

        Image.fromarray(picture(given.megapixels)).save(given.file, quality=95)


if __name__ == "__main__":
    main()
