"""A remover for other programs: ``remover = clearmark.load()``, then ``remover(image)``."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from clearmark import inference, metadata, pictures, released, runs
from clearmark.errors import UserError

Picture = TypeVar("Picture", np.ndarray, Image.Image, Tensor)


class Remover:
    """Takes marks off pictures, and gives each back as what it came as.

    Args:
        network: maps (B, 3, H, W) in [0, 1] to a ``Restoration``; in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, image: Picture) -> Picture:
        """Restore a picture of any size; what the network leaves alone comes back bit for bit.

        Args:
            image: an array (H, W, 3), RGB, or (H, W, 4) with transparency, which is kept, uint8 or
                uint16; a PIL picture, which comes back upright, as RGB or, with transparency of
                any kind, RGBA, in the 8 bits that Pillow has for colours; or a float tensor
                (3, H, W) or (B, 3, H, W) in [0, 1], which goes through in one piece and comes back
                on its own device. The ``info`` of a PIL picture that comes back holds its EXIF, RGB
                profile, XMP, resolution and text as ``save`` takes them, which writes them only if
                told to: ``restored.save(path, **restored.info)``, for JPEG, PNG and WebP all that
                they hold, for TIFF all but XMP and what the camera and the place say.

        Raises:
            ValueError: it is none of these.
        """
        if isinstance(image, Image.Image):
            beside = metadata.read(image)
            restored = Image.fromarray(pictures.eight_bits(self(_pixels(image))))
            restored.info.update(**metadata.options(beside))
            return restored
        if isinstance(image, Tensor):
            return self._tensor(image)
        if not isinstance(image, np.ndarray):
            raise ValueError(f"a picture is an array, a PIL picture or a tensor, no {type(image)}")
        deep = image.dtype in (np.uint8, np.uint16)
        if not deep or image.ndim != 3 or image.shape[2] not in (3, 4) or not image.size:
            raise ValueError(
                f"an array of {image.dtype} of shape {image.shape} is no picture; give (H, W, 3) "
                "RGB or (H, W, 4) RGBA, uint8 or uint16"
            )
        result = image.copy()
        result[..., :3] = self.restore(image[..., :3], with_mask=False)[0]
        return result

    def mask(self, image: np.ndarray) -> np.ndarray | None:
        """Where marks are: (H, W) float32, a probability, of (H, W, 3) RGB uint8 or uint16.

        None if the network predicts no mask.
        """
        return self.restore(image)[1]

    def restore(
        self, image: np.ndarray, with_mask: bool = True, watch: inference.Watch | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The restored picture and the mask of (H, W, 3), as ``inference.restore`` gives them."""
        return inference.restore(self.network, image, with_mask=with_mask, watch=watch)

    @torch.inference_mode()
    def _tensor(self, image: Tensor) -> Tensor:
        if image.ndim not in (3, 4) or image.shape[-3] != 3 or not image.is_floating_point():
            raise ValueError(
                f"a tensor of {image.dtype} of shape {tuple(image.shape)} is no picture; give "
                "(3, H, W) or (B, 3, H, W), floats in [0, 1]"
            )
        weight = next(self.network.parameters())
        batch = image.reshape(-1, *image.shape[-3:])
        restored = self.network(batch.to(weight)).image.clamp(0, 1)
        return restored.to(image).reshape(image.shape)


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3 or 4) of a picture of Pillow, upright: uint16 if it has 16 bits, else uint8."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.repeat(np.asarray(image).astype(np.uint16)[..., None], 3, 2)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"a picture of mode {image.mode} has no defined range; give one of 8 bits, or an array "
            "(H, W, 3) of uint16"
        )
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def load(ckpt: str | Path | None = None, device: str | None = None) -> Remover:
    """A remover for pictures.

    Args:
        ckpt: a run's folder, a ``.ckpt`` file, the folder of a released model or the name of an
            embedded one; None takes the best of these.
        device: ``cpu``, ``cuda``, ``mps``; None takes a GPU if there is one.

    Raises:
        UserError: there is no such network, or no such device.
    """
    found = released.EMBEDDED / released.BEST if ckpt is None else ckpt
    return Remover(runs.load_network(found)[0].to(_device(device)))


def _device(name: str | None) -> str:
    best = "mps" if torch.backends.mps.is_available() else "cpu"
    best = "cuda" if torch.cuda.is_available() else best
    try:
        return str(torch.zeros(1, device=name or best).device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name} cannot be used here; try device=cpu") from error
