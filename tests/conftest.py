"""Keeps the tests off the network and on one core; stands before anything imports torch."""

import copy
import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # more than the cores that are free costs a factor of ten
os.environ["WANDB_MODE"] = "offline"
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where begun with nohup or &
sys.path.insert(0, str(ROOT / "src"))  # the entry points are no part of the package


@pytest.fixture(autouse=True)
def _as_found():
    """A command in this process leaves its config, a handler for a file that is gone, its floats.

    Training rounds denormals to 0; Hypothesis draws them. TensorFlow's handler closes what was
    stderr when it was imported, which is pytest's, as soon as Hydra sets up logging.
    """
    yield
    root = logging.getLogger()
    root.handlers[:] = [h for h in root.handlers if not isinstance(h, logging.FileHandler)]
    HydraConfig.instance().cfg = None
    if absl := sys.modules.get("absl.logging"):
        absl.get_absl_handler().python_handler.stream = sys.__stderr__
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session", autouse=True)
def _read_once():
    """Hydra reads each YAML file up to three times a command, which is half of its time."""
    read, kept = OmegaConf.load, {}

    def load(file):
        name = str(getattr(file, "name", file))
        if not name.startswith((str(ROOT / "conf"), sys.prefix)):
            return read(file)
        if name not in kept:
            kept[name] = read(file)
        return copy.deepcopy(kept[name])

    OmegaConf.load = load
    yield
    OmegaConf.load = read


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run's folder with the checkpoint of a tiny network that changes every picture a little."""
    import lightning as L
    import torch

    from clearmark.config import build_network
    from clearmark.removal import Removal

    torch.manual_seed(0)
    model = {
        "_target_": "clearmark.models.ResNet",
        "activation": {"_target_": "torch.nn.ReLU", "_partial_": True},
        "width": 8,
        "dilations": [1, 2],
        "mask": True,
    }
    network = build_network(model)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    folder = tmp_path_factory.mktemp("run of mine")
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(Removal(network, config={"model": model}))
    trainer.save_checkpoint(folder / "checkpoints" / "best.ckpt")
    return folder


@pytest.fixture
def composed():
    """Composes a config as the command line would: composed("predict", "ckpt=...")."""
    from hydra import compose, initialize_config_dir

    def make(name, *overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose(name, list(overrides))

    return make
