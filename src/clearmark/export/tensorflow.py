"""TensorFlow: a SavedModel, a folder with a serving signature; extra ``[tensorflow]``.

``tf.saved_model.load(FOLDER).signatures["serving_default"](marked=marked)`` takes (batch, height,
width, 3) float32 in [0, 1] and gives a dictionary of ``restored``, the same, and ``mask``
(batch, height, width, 1). Batch, height and width are free.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from clearmark import disk
from clearmark.export.graph import INPUT, SINGLE, Restored, check_folder
from clearmark.export.keras import answering, built, compiled, quiet, tensorflow

if TYPE_CHECKING:
    import keras

SIGNATURE = "serving_default"
GRAPH = "saved_model.pb"
LIMITS = SINGLE


def check(output: Path) -> None:
    """See that the folder can be put there.

    Raises:
        UserError: see ``graph.check_folder``.
    """
    check_folder(output, GRAPH, "SavedModel")


def write(output: Path, network: nn.Module, config: dict[str, Any], ckpt: Path) -> None:
    """Write the folder ``output``.

    Args:
        output: replaced if it is a SavedModel.
        network: with the weights to write.
        config: of the checkpoint.
        ckpt: the checkpoint's file.

    Raises:
        UserError: the extra is not installed, the network has an operator that Keras has not, or
            something else is in the place of ``output``.
    """
    check(output)
    model = built(network, "tensorflow")
    with disk.whole_folder(output) as beside:
        save(model, beside)


def save(model: keras.Model, folder: Path) -> None:
    """Write a SavedModel to an empty folder; Keras's own way stores each weight twice."""
    import tensorflow as tf

    holder = tf.Module()
    holder.kept = [variable.value for variable in model.variables]
    holder.restored = compiled(model)
    with quiet():
        tf.saved_model.save(holder, str(folder), signatures={SIGNATURE: holder.restored})


def load(output: Path, threads: int | None = None) -> Callable[[Tensor], Restored]:
    """What runs the folder on the CPU, with the threads that torch had when it was first asked."""
    tensorflow("tensorflow")
    import tensorflow as tf

    with quiet():
        model = tf.saved_model.load(output)
    run = model.signatures[SIGNATURE]
    return answering(lambda marked: run(**{INPUT: tf.constant(marked)}))
