"""LiteRT (TensorFlow Lite): one file for phones and small machines; extra ``[tensorflow]``.

``Interpreter(FILE).get_signature_runner()(marked=marked)`` takes (batch, height, width, 3) float32
in [0, 1] and gives a dictionary of ``restored``, the same, and ``mask`` (batch, height, width, 1).
Batch, height and width are free.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clearmark import disk
from clearmark.errors import UserError
from clearmark.export.graph import INPUT, SINGLE, Restored, check_suffix
from clearmark.export.keras import answering, built, quiet, tensorflow
from clearmark.export.tensorflow import save

SUFFIX = ".tflite"
LIMITS = SINGLE


def check(output: Path) -> None:
    """See that the file has its format's name.

    Raises:
        UserError: see ``graph.check_suffix``.
    """
    check_suffix(output, SUFFIX, "litert")


def write(output: Path, network: nn.Module, config: dict[str, Any], ckpt: Path) -> None:
    """Write the file ``output``, of LiteRT's own operators only.

    Raises:
        UserError: the extra is not installed, or the network has an operator that LiteRT has not.
    """
    check(output)
    model = built(network, "litert")
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, quiet():
        save(model, Path(folder))
        try:
            made = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(f"format=litert cannot carry this network: {why}") from error
    with disk.whole(output) as beside:
        beside.write_bytes(made)


def load(output: Path, threads: int | None = None) -> Callable[[Tensor], Restored]:
    """What runs the file on the CPU.

    Args:
        output: the file.
        threads: of the runtime; None leaves the choice to it.
    """
    tensorflow("litert")
    import tensorflow as tf

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it will move to a package of its own
        interpreter = tf.lite.Interpreter(str(output), num_threads=threads)
        run = interpreter.get_signature_runner()

    def quietly(marked: Any) -> Any:
        with quiet():  # it says again for each size how it runs
            return run(**{INPUT: marked})

    return answering(quietly)
