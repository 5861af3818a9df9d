"""Keras: one file of ordinary Keras 3 layers, for the TensorFlow backend; extra ``[tensorflow]``.

``keras.saving.load_model(FILE)(marked)`` takes (batch, height, width, 3) float32 in [0, 1] and
gives a dictionary of ``restored``, the same, and ``mask`` (batch, height, width, 1). Batch, height
and width are free.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clearmark import disk
from clearmark.errors import UserError
from clearmark.export.graph import INPUT, OUTPUTS, SINGLE, Restored, check_suffix, traced

if TYPE_CHECKING:
    import keras

SUFFIX = ".keras"
LIMITS = SINGLE


def check(output: Path) -> None:
    """See that the file has its format's name.

    Raises:
        UserError: see ``graph.check_suffix``.
    """
    check_suffix(output, SUFFIX, "keras")


def write(output: Path, network: nn.Module, config: dict[str, Any], ckpt: Path) -> None:
    """Write the file ``output``.

    Raises:
        UserError: the extra is not installed, or the network has an operator that Keras has not.
    """
    check(output)
    model = built(network, "keras")
    with disk.whole(output) as beside:
        ending = beside.with_suffix(SUFFIX)  # Keras insists on it
        try:
            model.save(ending)
            os.replace(ending, beside)
        finally:
            ending.unlink(missing_ok=True)


def load(output: Path, threads: int | None = None) -> Callable[[Tensor], Restored]:
    """What runs the file on the CPU, with the threads that torch had when it was first asked."""
    tensorflow("keras")
    import keras

    return answering(compiled(keras.saving.load_model(output)))


def built(network: nn.Module, key: str) -> keras.Model:
    """A network as a Keras model.

    Raises:
        UserError: see ``write``.
    """
    tensorflow(key)
    import keras

    from clearmark.export.keras_layers import KerasLayers
    from clearmark.export.walk import sides, walk

    program = traced(network)
    marked = keras.Input((None, None, 3), name=INPUT)
    with quiet():
        outputs = walk(program, KerasLayers(marked, sides(program)), marked, key)
    return keras.Model(marked, dict(zip(OUTPUTS, outputs, strict=False)), name="clearmark")


def compiled(model: keras.Model) -> Any:
    """A model as a function of TensorFlow's, for pictures of any number and size."""
    import tensorflow as tf

    def restored(marked: Any) -> Any:
        return model(marked, training=False)

    signature = [tf.TensorSpec([None, None, None, 3], tf.float32, name=INPUT)]
    return tf.function(restored, input_signature=signature)


def answering(run: Callable[[Any], Any]) -> Callable[[Tensor], Restored]:
    """What runs on pictures with channels last, for torch's with channels first."""

    def restore(marked: Tensor) -> Restored:
        answer = run(marked.permute(0, 2, 3, 1).contiguous().numpy())
        arrays = [torch.from_numpy(_array(answer[name])) for name in OUTPUTS if name in answer]
        return Restored(*(values.permute(0, 3, 1, 2) for values in arrays))

    return restore


def _array(values: Any) -> Any:
    """The numpy array of a tensor of TensorFlow's, or of what is one."""
    return values.numpy() if hasattr(values, "numpy") else values


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing on the standard error, not even from libraries' C++, which have no other switch."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def tensorflow(key: str) -> None:
    """Import TensorFlow and Keras on it, silently, with as many threads as torch has.

    Raises:
        UserError: the extra is not installed, or Keras runs on something else already.
    """
    first = "tensorflow" not in sys.modules
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with quiet():
            import keras
            import tensorflow as tf

            if first:
                tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
                tf.config.threading.set_inter_op_parallelism_threads(1)
                tf.config.list_logical_devices()  # now, since this, too, is noisy
    except ImportError as error:
        raise UserError(
            f'format={key} needs {error.name}: pip install -c constraints.txt -e ".[tensorflow]"'
        ) from error
    if keras.config.backend() != "tensorflow":
        raise UserError(f"format={key}: Keras runs on {keras.config.backend()} in this process")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
