"""Small folders of pairs in the layouts of the published sets, and the module that reads them."""

import cv2
import numpy as np
import tiny

from clearmark.config import create

CLWD = {"marked": "Watermarked_image", "clean": "Watermark_free_image"}
CLWD_MAPS = {"mask": "Mask", "opacity": "Alpha", "colour": "Watermark"}


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = picture[..., ::-1] if picture.ndim == 3 else picture
    assert cv2.imwrite(str(path), colours)
    return path


def maps(seed, side=64, opacity=128):
    """A clean picture, and a square mark of one colour on it, blended by hand."""
    generator = np.random.default_rng(seed)
    clean = cv2.resize(generator.integers(0, 120, (6, 6, 3), np.uint8), (side, side))
    where = np.zeros((side, side), bool)
    top, left = generator.integers(5, side // 2, 2)
    where[top : top + 20, left : left + 20] = True
    marked = clean.copy()
    marked[where] = np.round(clean[where] * (1 - opacity / 255) + opacity).astype(np.uint8)
    return {
        "marked": marked,
        "clean": clean,
        "mask": where.astype(np.uint8) * 255,
        "opacity": where.astype(np.uint8) * opacity,
        "colour": np.full_like(clean, 255),
    }


def clwd(root, train=40, test=5):
    for split, count in (("train", train), ("test", test)):
        for number in range(1, count + 1):
            made = maps(number + 1000 * (split == "test"))
            for key, folder in CLWD.items():
                write(root / split / folder / f"{number}.jpg", made[key])
            for key, folder in CLWD_MAPS.items():
                if key != "colour" or split == "train":  # the released test set has none
                    write(root / split / folder / f"{number}.png", made[key])
            write(root / split / "Loss_balance" / f"{number}.png", made["mask"])  # has no use here
    return root


def lvw(root):
    folders = {"marked": "image", "clean": "background", "mask": "mask", "opacity": "alpha"}
    for split, count in (("train", 30), ("test", 4)):
        for number in range(count):
            made = maps(number + 100 * (split == "test"))
            for key, folder in folders.items():
                write(root / split / folder / f"{number:03}.png", made[key])
    return root


def logo(root, splits=("train", "val", "test"), extra=("mask", "wm")):
    """Two marks on each of six backgrounds a split."""
    for number, split in enumerate(splits):
        for background in range(6):
            for mark in ("Big-Shop-1", "cafe_2"):
                made = maps(10 * number + background)
                name = f"COCO_val2014_{number}{background}-{mark}_{number}"
                write(root / f"{split}_images" / "image" / f"{name}.png", made["marked"])
                for key in extra:
                    values = made["mask"] if key == "mask" else made["colour"]
                    write(root / f"{split}_images" / key / f"{name}.png", values)
            write(root / "natural" / f"COCO_val2014_{number}{background}.jpg", made["clean"])
    return root


def flat(root, marked, clean, **more):
    for number in range(60):
        made = maps(number)
        for key, folder in {"marked": marked, "clean": clean, **more}.items():
            write(root / folder / "deep" / f"p{number}.png", made[key])
    return root


SETS = {
    "clwd": (clwd, {"opacity", "colour"}),
    "lvw": (lvw, {"opacity"}),
    "logo": (logo, set()),
    "ilaw": (lambda r: flat(r, "watermarked", "gt", opacity="alpha"), {"opacity"}),
    "prwd": (
        lambda r: flat(r, "Watermarked_image", "Watermark_free_image", opacity="alpha"),
        {"opacity"},
    ),
    "pairs": (lambda r: flat(r, "marked", "clean"), set()),
}


def module(root, data="pairs", *more):
    """The data module as the command line makes it, ready for fit and test."""
    cfg = tiny.config(
        f"data={data}", f"data.root='{root}'", "data.batch_size=2", "data.crop=32", *more
    )
    made = create(cfg.data)
    made.setup("fit")
    made.setup("test")
    return made


def marked_files(data, split):
    return {pair.files["marked"] for pair in data.listing(split).pairs}
