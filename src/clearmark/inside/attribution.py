"""Which pixels a network's answer rests on: integrated gradients and occlusion, by Captum.

Both ask what becomes of the answer as pixels fade into a blurred copy of the picture, where nothing
as fine as a mark is left. ``deletion`` checks an attribution by doing just that to pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from clearmark.errors import UserError

OF = ("pixel", "mask")
"""What a question can be of."""

BATCH = 8
"""Pictures at a time."""


class Question(NamedTuple):
    """A number that a network gives a picture, to be explained.

    answer: (B, 3, H, W) to (B,), one number a picture.
    pixel: row and column of the pixel that it is about, or None.
    says: in a few words.
    """

    answer: Callable[[Tensor], Tensor]
    pixel: tuple[int, int] | None
    says: str


class Deletion(NamedTuple):
    """How much the answer changes as a share of the pixels is deleted, each (len(shares),).

    named, least: the pixels with the largest and with the smallest attribution.
    random: any pixels, the mean of several draws.
    all: what deleting the whole picture does.
    """

    shares: np.ndarray
    named: np.ndarray
    random: np.ndarray
    least: np.ndarray
    all: float


@torch.no_grad()
def question(
    network: nn.Module, marked: Tensor, of: str = "pixel", pixel: tuple[int, int] | None = None
) -> Question:
    """What to ask of a network about a picture.

    Args:
        network: in evaluation mode.
        marked: (1, 3, H, W).
        of: ``pixel`` asks how far the network moves a pixel, the mean of its colours
            counted the way that it goes; ``mask`` asks
            how sure it is of the mask that it predicts, the mean of its logits there, or at the
            pixel if the mask is empty.
        pixel: row and column; None takes the most changed one, in the mean of 5 x 5.

    Raises:
        UserError: there is no such question, or the network predicts no mask.
    """
    if of not in OF:
        raise UserError(f"of={of} does not exist; use {' or '.join(f'of={one}' for one in OF)}")
    restored = network(marked)
    changed = (restored.image - marked).abs().mean(1)[0].float().cpu().numpy()
    near = cv2.blur(changed, (5, 5), borderType=cv2.BORDER_CONSTANT)
    row, column = pixel or np.unravel_index(int(near.argmax()), near.shape)
    row, column = int(row), int(column)
    if of == "pixel":
        change = (restored.image - marked)[0, :, row, column].mean()
        way = -1.0 if change < 0 else 1.0

        def moved(pictures: Tensor) -> Tensor:
            change = network(pictures).image - pictures
            return way * change[:, :, row, column].mean(1)

        return Question(moved, (row, column), "how far the pixel is moved")
    if restored.mask_logits is None:
        raise UserError("of=mask: the network predicts no mask; use of=pixel")
    where = (restored.mask_logits > 0).to(marked)
    empty = not where.any()
    if empty:
        where[..., row, column] = 1

    def sure(pictures: Tensor) -> Tensor:
        return (network(pictures).mask_logits * where).flatten(1).sum(1) / where.sum()

    if empty:
        return Question(sure, (row, column), "how sure the mask is at the pixel")
    return Question(sure, None, "how sure the mask is")


def background(marked: Tensor) -> Tensor:
    """What deleted pixels become: the picture (1, 3, H, W), blurred by a sixteenth of its side."""
    pixels = marked[0].float().permute(1, 2, 0).cpu().numpy()
    blurred = cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape[:2]) / 16)
    return torch.from_numpy(blurred).permute(2, 0, 1)[None].to(marked)


def integrated_gradients(
    answer: Callable[[Tensor], Tensor], marked: Tensor, away: Tensor, steps: int = 64
) -> Tensor:
    """What each pixel adds to the answer (Sundararajan et al., 2017): (H, W).

    The sum over all pixels is the answer to ``marked`` less the answer to ``away``, up to what few
    steps miss of the integral.

    Args:
        answer: see ``Question``.
        marked: (1, 3, H, W).
        away: (1, 3, H, W), where the path to ``marked`` begins (see ``background``).
        steps: pictures on the path; the cost is one forward and one backward pass each.
    """
    method = captum().IntegratedGradients(answer)
    found: Tensor = method.attribute(marked, away, n_steps=steps, internal_batch_size=BATCH)
    return found.detach().sum(1)[0]


@torch.no_grad()
def occlusion(
    answer: Callable[[Tensor], Tensor], marked: Tensor, away: Tensor, patch: int = 16
) -> Tensor:
    """What the answer loses when a patch is taken from ``away`` instead: (H, W).

    Args:
        answer: see ``Question``.
        marked: (1, 3, H, W).
        away: (1, 3, H, W), what takes the place of deleted pixels.
        patch: side in pixels; the cost is one forward pass for each patch.
    """
    window = (3, *(min(patch, side) for side in marked.shape[-2:]))
    found: Tensor = (
        captum()
        .Occlusion(answer)
        .attribute(marked, window, window, away, perturbations_per_eval=BATCH)
    )
    return found.mean(1)[0]  # captum gives the loss to each of the three colours


@torch.no_grad()
def deletion(
    answer: Callable[[Tensor], Tensor],
    marked: Tensor,
    away: Tensor,
    attribution: Tensor,
    shares: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2),
    draws: int = 3,
) -> Deletion:
    """Check an attribution (H, W): how much the answer changes as the pixels it names are deleted.

    Args:
        answer: see ``Question``.
        marked: (1, 3, H, W).
        away: (1, 3, H, W), what takes the place of deleted pixels.
        attribution: of any sign; its size counts.
        shares: of the pixels, each in (0, 1].
        draws: of random pixels.
    """
    before = answer(marked)
    order = attribution.flatten().abs().argsort(descending=True, stable=True)
    generator = torch.Generator().manual_seed(0)
    chance = [torch.randperm(len(order), generator=generator).to(order) for _ in range(draws)]

    def change(order: Tensor, share: float) -> float:
        kept = torch.ones(len(order), dtype=marked.dtype, device=marked.device)
        kept[order[: max(1, round(share * len(order)))]] = 0
        return float((answer(torch.lerp(away, marked, kept.view_as(attribution))) - before).abs())

    rows = [
        (
            change(order, share),
            float(np.mean([change(any_order, share) for any_order in chance])),
            change(order.flip(0), share),
        )
        for share in shares
    ]
    named, random, least = np.array(rows).T
    return Deletion(np.array(shares), named, random, least, change(order, 1.0))


def captum() -> ModuleType:
    """The package's methods.

    Raises:
        UserError: the extra is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise UserError(
            f'attribution needs {error.name}: pip install -c constraints.txt -e ".[explain]"'
        ) from error
    attr: ModuleType = captum.attr
    return attr
