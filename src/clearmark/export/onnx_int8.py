"""ONNX in 8-bit integers: a third of the size, 1.2 to 2.1 times as fast; extra ``[onnx]``.

Weights and features of the layers that cost the time are rounded to 8 bits (post-training, static,
a scale for each output channel; Jacob et al., 2018). The features' ranges are taken from marked
photos of the train split. Inputs and outputs are those of ``format=onnx``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
from torch import nn

from clearmark import disk
from clearmark.data import PhotosModule
from clearmark.export import onnx
from clearmark.export.graph import INPUT, Limits, check_suffix
from clearmark.watermarks import Logo, Stamp, Text, Tiled

LIMITS = Limits(psnr=30)

PICTURES = 48
"""That the ranges are taken from."""

LAYERS = ["Conv", "Gemm", "MatMul"]
PERCENTILE = 99.999
"""Of a layer's features; what lies beyond is cut off, so that the others keep their resolution."""

load = onnx.load


def check(output: Path) -> None:
    """See that the file has its format's name.

    Raises:
        UserError: see ``graph.check_suffix``.
    """
    check_suffix(output, onnx.SUFFIX, "onnx_int8")


def write(output: Path, network: nn.Module, config: dict[str, Any], ckpt: Path) -> None:
    """Write the file ``output``.

    Raises:
        UserError: see ``onnx.write``.
    """
    check(output)
    with tempfile.TemporaryDirectory() as folder:
        single, prepared = (Path(folder) / f"{name}.onnx" for name in ("single", "prepared"))
        onnx.write(single, network, config, ckpt)
        with disk.whole(output) as beside, _quiet():
            _quantise(single, prepared, beside)


def _quantise(single: Path, prepared: Path, to: Path) -> None:
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = _marked()

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self.left, None)
            return None if picture is None else {INPUT: picture}

    quant_pre_process(str(single), str(prepared), skip_symbolic_shape=True)
    q.quantize_static(
        str(prepared),
        str(to),
        Pictures(),
        quant_format=q.QuantFormat.QDQ,
        op_types_to_quantize=LAYERS,
        per_channel=True,
        reduce_range=True,  # weights of 7 bits: sums of 8 overflow on CPUs without VNNI
        activation_type=q.QuantType.QUInt8,  # twice as fast on x86 as signed ones
        weight_type=q.QuantType.QInt8,
        calibrate_method=q.CalibrationMethod.Percentile,
        extra_options={"CalibPercentile": PERCENTILE},
    )


def _marked() -> Iterator[np.ndarray]:
    """(1, 3, 256, 256) in [0, 1]."""
    marks = A.OneOf([Text(), Logo(), Stamp(), Tiled(Text())], p=1)
    photos = PhotosModule(marks, crop=256, cache_mb=0).dataset("train")
    for index in range(PICTURES):
        marked = photos[0, index]["marked"].astype(np.float32) / 255
        yield np.ascontiguousarray(marked.transpose(2, 0, 1))[None]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library prints and warns of what was chosen above."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
