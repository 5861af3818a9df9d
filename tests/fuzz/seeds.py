"""Small pictures of every kind that is opened, for the fuzzer to start from.

``python tests/fuzz/seeds.py`` writes them to ``tests/fuzz/corpus``.
"""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CORPUS = Path(__file__).parent / "corpus"
ORIENTATION = 0x0112


def seeds() -> dict[str, bytes]:
    """Name -> content of each file."""
    generator = np.random.default_rng(0)
    rgb = cv2.resize(generator.integers(0, 256, (3, 3, 4), np.uint8), (9, 7))
    colour, clear = Image.fromarray(rgb[..., :3]), Image.fromarray(rgb)
    grey, small = colour.convert("L"), colour.resize((4, 3))
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    made = {
        "grey.jpg": _saved(grey, "JPEG"),
        "progressive.jpg": _saved(colour, "JPEG", progressive=True),
        "cmyk.jpg": _saved(colour.convert("CMYK"), "JPEG"),
        "turned.jpg": _saved(colour, "JPEG", exif=turned, comment=b"c"),
        "turned.png": _saved(colour, "PNG", exif=turned),
        "turned.webp": _saved(colour, "WEBP", exif=turned),
        "turned.tif": _saved(colour, "TIFF", exif=turned),
        "bilevel.png": _saved(grey.convert("1"), "PNG"),
        "palette.png": _saved(colour.convert("P", colors=8), "PNG", transparency=1),
        "alpha.png": _saved(clear, "PNG"),
        "grey_alpha.png": _saved(clear.convert("LA"), "PNG"),
        "animated.png": _saved(small, "PNG", save_all=True, append_images=[small.rotate(90)]),
        "alpha.webp": _saved(clear, "WEBP", lossless=True),
        "animated.webp": _saved(small, "WEBP", save_all=True, append_images=[small.rotate(90)]),
        "bilevel.tif": _saved(grey.convert("1"), "TIFF", compression="group4"),
        "lzw.tif": _saved(clear, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": _saved(colour, "TIFF", compression="jpeg"),
        "pages.tif": _saved(small, "TIFF", save_all=True, append_images=[small.rotate(90)]),
        "float.tif": _saved(grey.convert("F"), "TIFF"),
        "palette.gif": _saved(colour, "GIF", transparency=0),
        "animated.gif": _saved(small, "GIF", save_all=True, append_images=[small.rotate(90)]),
        "colour.bmp": _saved(colour, "BMP"),
        "palette.bmp": _saved(colour.convert("P", colors=8), "BMP"),
        "headless.dib": _saved(small, "DIB"),
        "colour.ppm": _saved(colour, "PPM"),
        "grey.pgm": _saved(grey, "PPM"),
        "bilevel.pbm": _saved(grey.convert("1"), "PPM"),
        "plain.ppm": b"P3 2 1 255\n1 2 3 4 5 6\n",
        "float.pfm": _saved(grey.convert("F"), "PPM"),
        "colour.jp2": _saved(colour, "JPEG2000"),
        "colour.avif": _saved(small, "AVIF"),
        "colour.ras": cv2.imencode(".ras", np.array(colour))[1].tobytes(),
        "text.png": b"no picture",
    }
    deep = rgb.astype(np.uint16) * 257
    for kind in ("png", "tif", "ppm"):
        made[f"deep.{kind}"] = cv2.imencode(f".{kind}", deep[..., :3])[1].tobytes()
    wide = cv2.resize(deep[..., :3], (32, 32))  # OpenCV writes no smaller ones
    made["deep.jp2"] = cv2.imencode(".jp2", wide)[1].tobytes()
    made["deep_alpha.png"] = cv2.imencode(".png", deep)[1].tobytes()
    made["deep_grey.png"] = cv2.imencode(".png", deep[..., 0])[1].tobytes()
    return made


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    for name, content in seeds().items():
        (CORPUS / name).write_bytes(content)
