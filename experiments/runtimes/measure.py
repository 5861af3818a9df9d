"""Size, time and difference of the flagship in every runtime: results.csv and the README's table.

python experiments/runtimes/measure.py                              (on one thread, minutes)
python experiments/runtimes/measure.py onnx torch                   (some formats, no results.csv)
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from clearmark import runs
from clearmark.config import create, register_resolvers
from clearmark.export import parity

HERE = Path(__file__).parent
CKPT = "unblend"
RESULTS = HERE / "results.csv"
FIELDS = ["format", "megabytes", "milliseconds", "pytorch", "difference", "psnr"]
"""``pytorch`` is its milliseconds in the same process, picture by picture beside the format's."""

DIGITS = [".2f", ".1f", ".1f", ".2g", ".1f"]
ROWS = {
    "onnx": ("`my_model.onnx`", "onnxruntime and others", '`".[onnx]"`'),
    "onnx_int8": ("`my_model.onnx`", "the same, in 8-bit integers", '`".[onnx]"`'),
    "keras": ("`my_model.keras`", "Keras 3 on TensorFlow, ordinary layers", '`".[tensorflow]"`'),
    "tensorflow": (
        "a folder",
        "TensorFlow: a SavedModel with a serving signature",
        '`".[tensorflow]"`',
    ),
    "litert": ("`my_model.tflite`", "LiteRT, for phones", '`".[tensorflow]"`'),
    "caffe": (
        "a folder",
        "OpenCV's DNN module, which takes the picture as `marked`, and as `grown` with its rim "
        "repeated as `config.json` says",
        '`".[caffe]"`',
    ),
    "torch": ("`my_model.pt2`", "PyTorch without this package", ""),
    "safetensors": ("a folder", "this package: weights in 16 bits, config, model card", ""),
}
"""Of each format: what ``output=`` is, what runs it, and what it needs."""


def main(names: list[str]) -> None:
    """Measure the formats on one thread, and print the table."""
    rows = measure(names or list(ROWS))
    if not names:
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows))


def measure(names: list[str]) -> list[dict[str, str]]:
    """A row of ``FIELDS`` for each format, as ``src/export.py threads=1`` reports them."""
    torch.set_num_threads(1)
    register_resolvers()
    with initialize_config_dir(str(HERE.parents[1] / "conf"), version_base="1.3"):
        cfg = compose("export")
    dataset = create(cfg.data).dataset("test")
    samples = [dataset[(0, index)] for index in range(cfg.samples)]
    network, config = runs.load_network(CKPT)
    weights, rows = runs.checkpoint_of(CKPT), []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            output = Path(folder, name, ROWS[name][0].strip("`"))
            found = parity.write(name, output, network, config, weights, samples, threads=1)
            ours, theirs = found.milliseconds
            values = (parity.megabytes(output), theirs, ours, found.largest, found.psnr)
            shown = [f"{value:{digits}}" for value, digits in zip(values, DIGITS, strict=True)]
            rows.append(dict(zip(FIELDS, [name, *shown], strict=True)))
            print(*rows[-1].values(), file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, str]]) -> str:
    """As Markdown."""
    head = ["`format=`", "`output=`", "run by", "needs", "MB", "ms", "PyTorch", "difference"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        difference = row["difference"].replace("e-0", "e-")
        difference = "0" if not float(difference) else difference
        if row["format"] == "onnx_int8":
            difference += " ([0.05 dB less](experiments/lighter/README.md))"
        sizes = [row["megabytes"], row["milliseconds"], row["pytorch"], difference]
        lines.append([f"`{row['format']}`", *ROWS[row["format"]], *sizes])
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
