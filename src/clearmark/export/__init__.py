"""Networks for others to use: a module a format, each with ``write`` and ``load``.

``write(output, network, config, ckpt)`` writes it, whole or not at all, ``load(output)`` gives back
what maps marked (B, 3, H, W) to a ``Restoration``, to be compared with the network.
"""

from clearmark.export import safetensors

FORMATS = {"safetensors": safetensors}
