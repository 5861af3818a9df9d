"""What happens to a marked picture on its way through the web, where albumentations falls short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np

from clearmark.errors import UserError

SUBSAMPLING = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}


class JPEG(A.ImageOnlyTransform):
    """Save and load as a JPEG, as ``A.ImageCompression`` does, with a choice of chroma subsampling.

    Args:
        quality: lowest and highest quality, 1 to 100, each as likely.
        subsampling: ways to store the chroma, each as likely: "4:4:4" keeps all of it, "4:2:2"
            every second column, "4:2:0" every second column and row.
        p: probability of being saved at all.

    Raises:
        UserError: a quality beyond 1 to 100, or an unknown subsampling.
    """

    def __init__(
        self,
        quality: tuple[int, int] = (40, 95),
        subsampling: Sequence[str] = ("4:4:4", "4:2:2", "4:2:0"),
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        if not subsampling or set(subsampling) - set(SUBSAMPLING):
            raise UserError(
                f"subsampling={list(subsampling)} is unknown; use some of {', '.join(SUBSAMPLING)}"
            )
        self.quality, self.subsampling = checked(quality), tuple(subsampling)

    def get_params(self) -> dict[str, Any]:
        return {
            "quality": self.py_random.randint(*self.quality),
            "subsampling": self.py_random.choice(self.subsampling),
        }

    def apply(self, img: np.ndarray, quality: int, subsampling: str, **params: Any) -> np.ndarray:
        return decoded(encoded(img, quality, subsampling))


class WebP(A.ImageOnlyTransform):
    """Save and load as a WebP; ``A.ImageCompression`` would take red for blue on the way.

    Args:
        quality: lowest and highest quality, 1 to 100, each as likely.
        p: probability of being saved at all.

    Raises:
        UserError: a quality beyond 1 to 100.
    """

    def __init__(self, quality: tuple[int, int] = (40, 95), p: float = 1.0) -> None:
        super().__init__(p=p)
        self.quality = checked(quality)

    def get_params(self) -> dict[str, Any]:
        return {"quality": self.py_random.randint(*self.quality)}

    def apply(self, img: np.ndarray, quality: int, **params: Any) -> np.ndarray:
        bgr = cv2.cvtColor(img, cv2.COLOR_RGB2BGR)
        return decoded(cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])[1])


def checked(quality: tuple[int, int]) -> tuple[int, int]:
    """The range of a quality, if it is one."""
    if not 1 <= quality[0] <= quality[1] <= 100:
        raise UserError(f"quality={list(quality)} is no range; use [low, high] within [1, 100]")
    return quality[0], quality[1]


def encoded(img: np.ndarray, quality: int, subsampling: str) -> np.ndarray:
    """The bytes of a JPEG file of an RGB picture (H, W, 3)."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SUBSAMPLING[subsampling]]
    return cv2.imencode(".jpg", cv2.cvtColor(img, cv2.COLOR_RGB2BGR), options)[1]


def decoded(content: np.ndarray) -> np.ndarray:
    """The RGB picture (H, W, 3) of a file's bytes."""
    loaded = cv2.imdecode(content, cv2.IMREAD_COLOR)
    assert loaded is not None
    return cv2.cvtColor(loaded, cv2.COLOR_BGR2RGB)
