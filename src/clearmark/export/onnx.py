"""ONNX: one file, run by onnxruntime and others; extra ``[onnx]``.

``marked`` (batch, 3, height, width) float32 in [0, 1] -> ``restored``, the same, and ``mask``
(batch, 1, height, width). Batch, height and width are free. The network's config is among the
file's properties.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clearmark import disk
from clearmark.errors import UserError
from clearmark.export.graph import INPUT, OUTPUTS, SINGLE, Restored, check_suffix, traced

SUFFIX = ".onnx"
LIMITS = SINGLE


def check(output: Path) -> None:
    """See that the file has its format's name.

    Raises:
        UserError: see ``graph.check_suffix``.
    """
    check_suffix(output, SUFFIX, "onnx")


def write(output: Path, network: nn.Module, config: dict[str, Any], ckpt: Path) -> None:
    """Write the file ``output``.

    Raises:
        UserError: the extra is not installed, or the network has an operator that ONNX has not.
    """
    check(output)
    _needed()
    sizes = {INPUT: {0: "batch", 2: "height", 3: "width"}}
    program = traced(network)
    names = list(OUTPUTS[: len(program.graph_signature.user_outputs)])
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # of torchvision, which nothing here needs
    try:
        made = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=names,
            dynamic_shapes=sizes,
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason: BaseException = error
        while reason.__cause__:
            reason = reason.__cause__
        why = " ".join(str(reason).split())[:200]
        raise UserError(f"format=onnx cannot carry this network: {why}") from error
    finally:
        quiet.setLevel(level)
    assert made is not None  # as with dynamo=False
    made.model.metadata_props["clearmark"] = json.dumps({"model": config["model"]})
    with disk.whole(output) as beside:
        made.save(str(beside), external_data=False)


def load(output: Path, threads: int | None = None) -> Callable[[Tensor], Restored]:
    """What runs the file on the CPU.

    Args:
        output: the file.
        threads: of the runtime; None leaves the choice to it.
    """
    _needed()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(output), options, providers=["CPUExecutionProvider"])

    def restore(marked: Tensor) -> Restored:
        return Restored(*map(torch.from_numpy, session.run(None, {INPUT: marked.numpy()})))

    return restore


def _needed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'format=onnx needs {error.name}: pip install -c constraints.txt -e ".[onnx]"'
        ) from error
