"""The smallest real runs: ``train.yaml`` with everything turned down, and noise for photos."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
from hydra import compose, initialize_config_dir

from clearmark import cli
from clearmark.config import register_resolvers

ROOT = Path(__file__).parents[1]
SMALL = [
    *("trainer=debug", "trainer.detect_anomaly=false", "logger=csv", "~callbacks.progress"),
    *("data=folder", "data.size=64", "data.crop=32", "data.batch_size=2", "data.eval_batch_size=2"),
    *("data.samples_per_epoch=4", "data.val_samples=2", "data.test_samples=2"),
    "data.workers=0",
    *("+callbacks.panels.pictures=2", "threads=1", "print_config=false"),
]
NARROW = {
    "conv_fc": ["model.widths=[4,4]", "model.hidden=16", "model.patch=8", "model.overlap=2"],
    "resnet": ["model.width=4", "model.dilations=[1,2]"],
    "unet": ["model.widths=[4,8]"],
    "unblend": ["model.widths=[4,8]"],
}


def choices(group):
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def photos(root, count=30, side=72):
    """A folder of pictures with something in each split."""
    generator = np.random.default_rng(0)
    root.mkdir()
    for number in range(count):
        coarse = generator.integers(0, 256, (6, 6, 3), np.uint8)
        picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / f"photo{number:02}.png"), picture)
    return root


def overrides(root, model="unet"):
    return [*SMALL, f"model={model}", *NARROW.get(model, []), f"data.root={root}"]


def config(*given):
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", cli.quote_digits([*given, "name=run"]))


def entry_point(name):
    """The module of ``src/name.py``, which belongs to no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "src" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
