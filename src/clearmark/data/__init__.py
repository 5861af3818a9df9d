"""From photo files to batches of marked pictures."""

from clearmark.data.datamodule import PhotosModule
from clearmark.data.marked import FixedSampler, MarkedPhotos, as_tensors
from clearmark.data.pairs import Pairs, PairsModule, Resized
from clearmark.data.photos import Photos
from clearmark.data.splits import SplitsModule

__all__ = [
    "FixedSampler",
    "MarkedPhotos",
    "Pairs",
    "PairsModule",
    "Photos",
    "PhotosModule",
    "Resized",
    "SplitsModule",
    "as_tensors",
]
