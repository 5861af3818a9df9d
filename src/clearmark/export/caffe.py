"""Caffe: a folder of deploy.prototxt and network.caffemodel for OpenCV 4; extra ``[caffe]``.

``cv2.dnn.readNetFromCaffe`` reads it. The input ``marked`` is (batch, 3, height, width) float32
RGB in [0, 1], the outputs ``restored``, the same, and ``mask`` (batch, 1, height, width). Batch,
height and width are free: OpenCV takes what it is given, whatever size deploy.prototxt says. A
second input, ``grown``, is the picture with its rim repeated until the network can halve its sides
or cut it into patches, since no layer of Caffe does that; ``config.json`` says how far.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clearmark import disk
from clearmark.errors import UserError
from clearmark.export.graph import INPUT, OUTPUTS, SINGLE, Restored, check_folder, traced
from clearmark.export.walk import Growth, sides, walk

STRUCTURE, WEIGHTS, CONFIG = "deploy.prototxt", "network.caffemodel", "config.json"
LIMITS = SINGLE


def check(output: Path) -> None:
    """See that the folder can be put there.

    Raises:
        UserError: see ``graph.check_folder``.
    """
    check_folder(output, STRUCTURE, "Caffe network")


def write(output: Path, network: nn.Module, config: dict[str, Any], ckpt: Path) -> None:
    """Write the folder ``output``.

    Args:
        output: replaced if it is a Caffe network.
        network: with the weights to write.
        config: of the checkpoint.
        ckpt: the checkpoint's file.

    Raises:
        UserError: the extra is not installed, OpenCV has no layer for an operator of the network,
            or something else is in the place of ``output``.
    """
    try:
        from google.protobuf import text_format
    except ImportError as error:
        raise UserError(
            'format=caffe needs protobuf: pip install -c constraints.txt -e ".[caffe]"'
        ) from error
    from clearmark.export.caffe_layers import CaffeLayers

    check(output)
    program = traced(network)
    layers = CaffeLayers(sides(program))
    outputs = walk(program, layers, layers.marked, "caffe")
    layers.name_outputs({blob.name: name for blob, name in zip(outputs, OUTPUTS, strict=False)})
    grown = layers.growth and layers.growth._asdict()
    with disk.whole_folder(output) as beside:
        (beside / WEIGHTS).write_bytes(layers.net.SerializeToString())
        for layer in layers.net.layer:
            layer.ClearField("blobs")
        (beside / STRUCTURE).write_text(text_format.MessageToString(layers.net), encoding="utf-8")
        told = {"model": config.get("model"), "outputs": OUTPUTS[: len(outputs)], "grown": grown}
        (beside / CONFIG).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def load(output: Path, threads: int | None = None) -> Callable[[Tensor], Restored]:
    """What runs the folder on the CPU.

    Args:
        output: the folder.
        threads: of OpenCV, in the whole process; None leaves them as they are.
    """
    if threads:
        cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromCaffe(str(output / STRUCTURE), str(output / WEIGHTS))
    told = json.loads((output / CONFIG).read_text(encoding="utf-8"))
    growth = told["grown"] and Growth(**told["grown"])

    def restore(marked: Tensor) -> Restored:
        net.setInput(marked.numpy(), INPUT)
        if growth:
            net.setInput(grow(marked, growth).numpy(), "grown")
        return Restored(*map(torch.from_numpy, net.forward(told["outputs"])))

    return restore


def grow(marked: Tensor, growth: Growth) -> Tensor:
    """(B, 3, H, W) with its rim repeated."""
    before = growth.before
    down, right = (growth.total(side) - side - before for side in marked.shape[2:])
    return F.pad(marked, (before, right, before, down), mode="replicate")
