"""The photos to train a released model on, in two sizes: as embedded, and as their sources are.

python experiments/release/photos.py SOURCE OUTPUT

SOURCE is that of ``experiments/embedded_data/build.py``, which made the embedded ones smaller. Only
photos of the training split come into OUTPUT/train; validation and test keep to embedded ones with
``data=folder data.root=OUTPUT data.stand_in=true``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

EMBEDDED = Path(__file__).parents[2] / "src" / "clearmark" / "assets" / "photos" / "train"


def main(source: Path, output: Path) -> None:
    """Copy both sizes of each, and say how many there are."""
    sizes = output / "train" / "embedded", output / "train" / "source"
    for folder in sizes:
        folder.mkdir(parents=True)
    originals = {path.stem: path for path in (source / "photos").iterdir()}
    small = sorted(EMBEDDED.iterdir())
    for photo in small:
        shutil.copy(photo, sizes[0])
        shutil.copy(originals[photo.stem], sizes[1])
    print(f"{len(small)} photos in two sizes: {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
