"""Write the marked pictures for tools that live elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from rich.progress import track

from clearmark.benchmark.frozen import MarkBench
from clearmark.errors import UserError
from clearmark.watermarks.assets import EMBEDDED

README = """# MarkBench {version}

{count} marked pictures, numbered, as 8-bit RGB PNG in `marked/`. Restore each on its own, by its
pixels alone, and write what you get to a folder of yours under the same name and in the same size
(PNG, or another lossless format). Some pictures bear no mark and should come back unchanged. Beside
NAME.png you may leave NAME_mask.png, white where your tool saw a mark. Then, in the repository:

    python src/benchmark.py outputs=YOUR_FOLDER

`mask/` tells where the marks are, for inpainting tools that need to be told; then say so.
`manifest.csv` lists family, size and photo of each picture. SHA-256 of the set: {sha256}
(of the pictures here: {state}).

The photos are under CC-BY-4.0, MIT, BSD and CC0 or in the public domain: see CREDITS.tsv.
"""


def refuse(folder: Path) -> None:
    """Make sure that no file of the user's is lost."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"export={folder} holds something already; give a new folder")


def export(bench: MarkBench, folder: Path, frozen: Mapping[str, Any]) -> None:
    """Write marked/, mask/, manifest.csv, README.md and CREDITS.tsv to an empty or a new folder.

    ``frozen`` is the record of the set, with the ``state`` that ``verify`` found.
    """
    for inside in ("marked", "mask"):
        (folder / inside).mkdir(parents=True, exist_ok=True)
    rows = []
    for sample in track(bench, "exporting"):
        _write(folder / "marked" / f"{sample.name}.png", sample.marked[..., ::-1])
        _write(folder / "mask" / f"{sample.name}.png", sample.mask.astype(np.uint8) * 255)
        height, width = sample.opacity.shape
        rows.append((sample.name, sample.family, sample.size, sample.photo, width, height))
    names = ["name", "family", "size", "photo", "width", "height"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "manifest.csv", index=False)
    text = README.format(
        version=bench.version, count=len(bench), sha256=frozen["sha256"], state=frozen["state"]
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "CREDITS.tsv").write_bytes((EMBEDDED / "CREDITS.tsv").read_bytes())
    print(f"wrote {len(bench)} pictures: {folder / 'marked'}")


def _write(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise UserError(
            f"export={path.parents[1]}: {path.name} cannot be written; is the disk full?"
        )
