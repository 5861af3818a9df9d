"""Draws the logo of this study: an icon of the test split in two colours on transparent ground.

python experiments/my_mark/logo.py logo.png
"""

import sys

import numpy as np
from PIL import Image

from clearmark.watermarks.assets import EMBEDDED, read_icon

ICON = "ph-security-camera-fill.png"
TOP, BOTTOM = np.array([255, 140, 0]), np.array([0, 120, 200])  # orange, blue


def logo() -> Image.Image:
    """The icon three times as large, coloured from orange above to blue below, RGBA."""
    matte = Image.fromarray(read_icon(EMBEDDED / "icons" / "test" / ICON)[..., 3])
    matte = matte.resize((3 * matte.width, 3 * matte.height), Image.Resampling.BICUBIC)
    share = np.linspace(0, 1, matte.height)[:, None, None]
    colours = np.broadcast_to(TOP + share * (BOTTOM - TOP), (matte.height, matte.width, 3))
    drawn = Image.fromarray(colours.round().astype(np.uint8))
    drawn.putalpha(matte)
    return drawn


if __name__ == "__main__":
    logo().save(sys.argv[1])
