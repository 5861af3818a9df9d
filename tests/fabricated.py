"""Folders of runs as training leaves them, without the training.

``python tests/fabricated.py 24`` makes so many and says what it takes to compare them.
"""

import json
import math
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

from clearmark.config import build_network
from clearmark.removal import Removal

LRS = (1e-4, 3e-4, 1e-3, 3e-3)
LOSSES = ("removal", "mse")
MODEL = {
    "_target_": "clearmark.models.UNet",
    "activation": {"_target_": "torch.nn.ReLU", "_partial_": True},
    "widths": [4, 8],
}
ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "src" / "clearmark" / "assets" / "photos" / "test"
NOTEBOOK = ROOT / "notebooks" / "compare_runs.ipynb"


def gain(at):
    """Of the run of that number; falls with the learning rate, and seeds differ by 0.1 dB."""
    seed, lr, loss = at % 3, at // 3 % 4, at // 12
    return 5 - lr - loss / 2 + 0.1 * seed


def runs(folder, count, side=64, pictures=2, checkpoints=False):
    """Runs of four learning rates, two losses and three seeds, in the order of a sweep's jobs."""
    for at in range(count):
        run = folder / str(at)
        seed, lr, loss = at % 3, LRS[at // 3 % 4], LOSSES[at // 12 % 2]
        words = [f"loss={loss}", f"optimizer.lr={lr}", f"seed={seed}", "experiment=quick"]
        optimizer = {"_target_": "torch.optim.Adam", "lr": lr, "betas": [0.9, 0.99]}
        config = {"model": MODEL, "optimizer": optimizer, "seed": seed, "folder": str(run)}
        figures = {"psnr_gain": gain(at), "psnr": 27 + gain(at), "ssim": 0.9 + gain(at) / 100}
        figures |= {"rmsew": 40 - gain(at), "mask_f1": gain(at) / 10, "clean_psnr": 45.0}
        results = {f"test/{name}": value for name, value in figures.items()}
        results |= {"parameters": 3000, "gmac": 0.01, "wall_seconds": 60.0 + at}
        write(run, words, results, config)
        lines = [
            f"{step},{math.exp(-lr * step)},{gain(at) * step / 100 if step % 20 == 0 else ''}\n"
            for step in range(0, 101, 5)
        ]
        (run / "metrics.csv").write_text("step,train/loss,val/psnr_gain\n" + "".join(lines))
        (run / "panels").mkdir()
        cv2.imwrite(str(run / "panels" / "test.png"), panel(at, side, pictures))
        cv2.imwrite(str(run / "panels" / "val_epoch000.png"), panel(at, side, 1))
        if checkpoints:
            (run / "checkpoints").mkdir()
            torch.save(checkpoint(at), run / "checkpoints" / "best.ckpt")
    return folder


def write(run, words, results, config):
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    (run / "results.json").write_text(json.dumps(results))
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def fail(run, words, reason):
    run.mkdir(parents=True)
    content = {"overrides": words, "reason": reason, "traceback": ""}
    (run / "failed.json").write_text(json.dumps(content))


def panel(at, side, pictures):
    """As ``Panels`` writes it: five columns with their names above."""
    rows = []
    for path in sorted(PHOTOS.iterdir())[:pictures]:
        photo = cv2.resize(cv2.imread(str(path)), (side, side), interpolation=cv2.INTER_AREA)
        noise = np.random.default_rng(at).integers(0, 40, photo.shape, np.uint8)
        error = 4 * cv2.absdiff(cv2.add(photo, noise), photo)
        mask = np.full_like(photo, 10 * at % 256)
        rows.append(np.hstack([255 - photo, cv2.add(photo, noise), photo, error, mask]))
    title = np.full((22, 5 * side, 3), 255, np.uint8)
    return np.vstack([title, *rows])


def checkpoint(at):
    torch.manual_seed(at)
    network = build_network(MODEL)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return {"config": {"model": MODEL}, "state_dict": Removal(network).state_dict()}


def measure(count):
    from clearmark import page
    from clearmark import runs as of_clearmark

    with tempfile.TemporaryDirectory() as folder:
        runs(Path(folder), count, side=256, pictures=6, checkpoints=True)
        began = time.perf_counter()
        table = of_clearmark.load(folder)
        loaded = time.perf_counter()
        html = page.render(table, folder, "test/psnr_gain")
        done = time.perf_counter()
        print(f"{count} runs: {loaded - began:.1f} s to load them")
        print(f"{done - loaded:.1f} s to write the page, {len(html) / 1e6:.1f} MB")
        print(f"{compare_in_notebook(folder):.1f} s of the notebook, without the first imports")


def compare_in_notebook(folder):
    """Seconds of all cells but the first, which imports."""
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if "FOLDER = None" in cell.source)
    first.source = first.source.replace("FOLDER = None", f"FOLDER = Path({folder!r})")
    place = {"metadata": {"path": NOTEBOOK.parent}}
    client = nbclient.NotebookClient(notebook, kernel_name="python3", resources=place)
    with client.setup_kernel():
        for at, cell in enumerate(notebook.cells):
            client.execute_cell(cell, at)
            if cell is first:
                began = time.perf_counter()
        return time.perf_counter() - began


if __name__ == "__main__":
    measure(int(sys.argv[1]))
