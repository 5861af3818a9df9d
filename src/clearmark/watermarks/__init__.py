"""Marks as albumentations transforms, one kind a file; see ``Mark`` for what they share."""

import os

# albumentations asks the network for a newer version when imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from clearmark.watermarks.assets import MarkAssets
from clearmark.watermarks.band import Band
from clearmark.watermarks.base import Layer, Mark, Sketch
from clearmark.watermarks.lines import Lines
from clearmark.watermarks.logo import Logo
from clearmark.watermarks.own import Own
from clearmark.watermarks.several import Several
from clearmark.watermarks.shape import Shape
from clearmark.watermarks.stamp import Stamp
from clearmark.watermarks.text import Text
from clearmark.watermarks.tiled import Tiled

__all__ = [
    "Band",
    "Layer",
    "Lines",
    "Logo",
    "Mark",
    "MarkAssets",
    "Own",
    "Several",
    "Shape",
    "Sketch",
    "Stamp",
    "Text",
    "Tiled",
]
