"""Opens whatever a fuzzer makes of small pictures: each is a ``Picture`` or a ``PictureError``.

``python tests/fuzz/open_picture.py -max_total_time=60 NEW tests/fuzz/corpus`` runs for a minute;
the options are libFuzzer's. Inputs that reach new code go to the folder NEW, and one that breaks
the promise, takes 20 seconds or 2 GB to a file in the working folder. Needs atheris.
"""

import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["PIL", "clearmark.pictures"]):
    from PIL import Image

    Image.init()  # its readers are imported when they are needed, which is too late
    from clearmark import pictures

OPTIONS = ("-max_len=4096", "-timeout=20", "-rss_limit_mb=2000")
FILE = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)) / "picture"
LEVELS = (np.uint8, np.uint16)


def open_one(data: bytes) -> None:
    """Raises if the promise of ``pictures.read`` does not hold for a file of these bytes."""
    FILE.write_bytes(data)
    try:
        picture = pictures.read(FILE, megapixels=1)
    except pictures.PictureError as error:
        refused = str(error)
        if len(refused.splitlines()) != 1:
            raise AssertionError(f"not one line: {refused!r}") from error
        return
    height, width, channels = picture.pixels.shape
    assert channels == 3
    assert 0 < height * width <= 1e6
    assert picture.pixels.dtype in LEVELS
    if picture.alpha is not None:
        assert picture.alpha.shape == (height, width)
        assert picture.alpha.dtype == picture.pixels.dtype
    for kind in (".png", ".jpg"):
        fits = pictures.fitting(picture, kind)
        assert kind == ".png" or (fits.alpha is None and fits.pixels.dtype == np.uint8)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    atheris.Setup([sys.argv[0], *OPTIONS, *sys.argv[1:]], open_one)
    atheris.Fuzz()
