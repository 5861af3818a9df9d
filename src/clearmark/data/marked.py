"""Marked photos, made as they are asked for: each a pure function of (seed, epoch, index)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from clearmark.data.photos import Photos
from clearmark.formation import visible
from clearmark.watermarks import MarkAssets
from clearmark.watermarks.pixels import blended, blended_in_light, differs

Sample = dict[str, np.ndarray]
Transform: TypeAlias = A.BaseCompose | A.BasicTransform


class MarkedPhotos(Dataset[Sample]):
    """Photos of one split under marks of the same split.

    A sample holds uint8 arrays: ``marked``, ``clean`` and ``colour`` (H, W, 3), ``opacity`` (H, W),
    and with ``mask_above`` also ``mask`` (H, W) in {0, 255}.
    Before it is degraded, ``marked`` is what ``formation.blend`` makes of the other three, up to
    8-bit rounding, or ``formation.blend_linear`` in the share ``linear``. The colour is the mark's
    and means nothing where the opacity is 0.

    Args:
        photos: the clean photos.
        assets: what the marks are drawn with.
        geometry: transform of the clean photo (``image``) to a fixed size.
        watermark: transform that gathers marks in ``opacity`` and ``colour`` (see
            ``clearmark.watermarks``); it sees no picture.
        seed: the first part of (seed, epoch, index).
        unmarked: share of the samples that bear no mark.
        crop: side of the square of a picture that is looked at; None looks at all of it.
        on_mark: share of the crops that are sure to hold a pixel of the mark.
        in_order: take photo number ``index``, cycling, instead of a random one.
        linear: share of the samples whose marks are blended in linear light.
        degradation: transform of ``marked`` (``image``) alone that keeps its size, as JPEG;
            pictures without a mark undergo it too, or it would give the marked ones away.
        mask_above: the mask is where the mark changes a pixel by more than that, of 255, summed
            over the channels; None leaves it to be where the opacity is visible.
    """

    def __init__(
        self,
        photos: Photos,
        assets: MarkAssets,
        geometry: Transform,
        watermark: Transform,
        seed: int,
        unmarked: float = 0.0,
        crop: int | None = None,
        on_mark: float = 0.0,
        in_order: bool = False,
        linear: float = 0.0,
        degradation: Transform | None = None,
        mask_above: int | None = None,
    ) -> None:
        self.photos, self.assets, self.seed = photos, assets, seed
        self.geometry, self.watermark, self.unmarked = geometry, watermark, unmarked
        self.crop, self.on_mark, self.in_order = crop, on_mark, in_order
        self.linear, self.degradation = linear, degradation or A.NoOp(p=1.0)
        self.mask_above = mask_above
        self._generator, self._python = np.random.default_rng(), random.Random()

    @property
    def broken(self) -> dict[Path, str]:
        """The photos that were left out, each with the reason."""
        return self.photos.broken

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        generator, python = self._drawing(*key)
        index = key[1]
        number = index if self.in_order else int(generator.integers(len(self.photos)))
        clean = self.geometry(image=self.photos[number % len(self.photos)])["image"]
        opacity, colour = np.zeros(clean.shape[:2], np.uint8), np.zeros_like(clean)
        if python.random() >= self.unmarked:
            made = self.watermark(assets=self.assets, opacity=opacity, colour=colour)
            opacity, colour = made["opacity"], made["colour"]
        if self.crop is not None:
            window = self._window(opacity, self.crop, python)
            clean, opacity, colour = clean[window], opacity[window], colour[window]
        marked = _marked(clean, opacity, colour, python.random() < self.linear)
        sample = {"clean": clean, "colour": colour, "opacity": opacity}
        if self.mask_above is not None:  # before degradation, which changes pixels everywhere
            sample["mask"] = differs(marked, clean, self.mask_above).astype(np.uint8) * 255
        return {"marked": self.degradation(image=marked)["image"], **sample}

    def _drawing(self, epoch: int, index: int) -> tuple[np.random.Generator, random.Random]:
        """Both generators at the sample's start, in the hands of every transform."""
        # albumentations would draw the same numbers in every worker and every epoch.
        self._generator.bit_generator.state = np.random.PCG64((self.seed, epoch, index)).state
        self._python.seed(int(self._generator.integers(2**63)))
        for transform in (self.geometry, self.watermark, self.degradation):
            if transform.py_random is not self._python:  # other splits share the watermark
                transform.set_random_state(self._generator, self._python)
        return self._generator, self._python

    def _window(self, opacity: np.ndarray, side: int, python: random.Random) -> tuple[slice, slice]:
        """A square, in the share ``on_mark`` of the samples one that holds a pixel of the mark."""
        room = [extent - side for extent in opacity.shape]
        corner = [python.randint(0, gap) for gap in room]
        if python.random() < self.on_mark and opacity.any():
            moved = [at - python.randrange(side) for at in _pixel(opacity, python)]
            corner = [min(max(at, 0), gap) for at, gap in zip(moved, room, strict=True)]
        top, left = corner
        return slice(top, top + side), slice(left, left + side)


def _marked(clean: np.ndarray, opacity: np.ndarray, colour: np.ndarray, linear: bool) -> np.ndarray:
    """The clean picture under a mark, blended where the mark is only."""
    marked = clean.copy()
    left, top, width, height = cv2.boundingRect(opacity)
    if width:
        part = slice(top, top + height), slice(left, left + width)
        blending = blended_in_light if linear else blended
        marked[part] = blending(clean[part], opacity[part], colour[part])
    return marked


def _pixel(opacity: np.ndarray, python: random.Random) -> tuple[int, int]:
    """Row and column of a pixel of the mark, each as likely; there must be one."""
    height, width = opacity.shape
    for _ in range(30):  # listing all pixels takes ten times as long as guessing one
        row, column = python.randrange(height), python.randrange(width)
        if opacity.item(row, column):
            return row, column
    pixels = cv2.findNonZero(opacity)
    column, row = pixels[python.randrange(len(pixels)), 0].tolist()
    return row, column


class FixedSampler(Sampler[tuple[int, int]]):
    """The samples that are measured on: (0, index), the same ones each time.

    With several processes each takes every ``world``-th index, and no index is repeated to fill up.

    Args:
        length: samples, over all processes.
        rank: which process this is, of ``world``.
        world: how many processes there are.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, length, world)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((0, index) for index in self.indices)


def as_tensors(samples: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Collated uint8 samples as a batch: (B, C, H, W) in [0, 1], channels last, and the mask.

    The mask is the sample's own, or where the opacity is visible. This runs on the device, since
    bytes travel four times faster than floats.
    """
    batch = {
        key: (values[..., None] if values.ndim == 3 else values)
        .permute(0, 3, 1, 2)
        .to(dtype)
        .div_(255)
        for key, values in samples.items()
    }
    if "mask" not in batch:
        batch["mask"] = visible(batch["opacity"]).to(dtype)
    return batch
