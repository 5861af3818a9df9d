"""Networks for others to use: a module a format, each with ``check``, ``write`` and ``load``.

``check(output)`` refuses a place for it, ``write(output, network, config, ckpt)`` writes it, whole
or not at all, ``load(output, threads)`` gives back what maps marked (B, 3, H, W) to an answer with
``image`` and ``mask``, and ``LIMITS`` says how far that may be from the network (see ``parity``).
"""

from clearmark.export import (
    caffe,
    keras,
    litert,
    onnx,
    onnx_int8,
    safetensors,
    tensorflow,
    torch_export,
)

FORMATS = {
    "safetensors": safetensors,
    "onnx": onnx,
    "onnx_int8": onnx_int8,
    "torch": torch_export,
    "keras": keras,
    "tensorflow": tensorflow,
    "litert": litert,
    "caffe": caffe,
}
