"""Train a network that removes watermarks: ``python src/train.py model=unet optimizer=adam``."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig, OmegaConf

from clearmark import cli

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from clearmark.removal import Removal


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@cli.entry
def main(cfg: DictConfig) -> float:
    """Train, test once, leave everything in the run's folder; returns a sweep's objective."""
    return train(cfg)[cfg.objective]


def train(cfg: DictConfig) -> dict[str, float]:
    """One run: returns the test figures, under the names they are logged by."""
    import torch
    from lightning import Trainer, seed_everything

    from clearmark import results, runs
    from clearmark.config import check, create, register_resolvers

    began = time.perf_counter()
    register_resolvers()
    check(cfg)
    seed_everything(cfg.seed, verbose=False)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    data, module, folder = create(cfg.data), build(cfg), Path(cfg.folder)
    data.setup("fit")
    data.setup("test")
    runs.start(folder, cfg, data.broken)
    if cfg.print_config:
        print(OmegaConf.to_yaml(cfg, resolve=True))
    callbacks = create(cfg.callbacks)
    trainer: Trainer = create(
        cfg.trainer, logger=list(create(cfg.logger).values()), callbacks=list(callbacks.values())
    )
    checkpoint = callbacks["checkpoint"]
    try:
        trainer.fit(module, data)
        best = checkpoint.best_model_path
        tested = trainer.test(module, data, best, verbose=False, weights_only=True)[0]
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt(checkpoint.last_model_path) from stop
    figures = {**tested} | results.cost(module.network) | callbacks["pace"].figures()
    figures["wall_seconds"] = time.perf_counter() - began
    if trainer.is_global_zero:
        runs.write_json(folder / "results.json", figures)
        results.show(figures, f"Test split: photos and marks never seen ({folder})")
        print(f"pictures    {folder / 'panels' / 'test.png'}\ncheckpoint  {best}")
    return figures


def build(cfg: DictConfig) -> "Removal":
    """The network with what trains it."""
    import torch

    from clearmark.config import build_network, create
    from clearmark.removal import Removal

    def scheduler(optimizer: "Optimizer", total_steps: int) -> "LRScheduler":
        cfg.total_steps = total_steps
        schedule: LRScheduler = create(cfg.scheduler)(optimizer)
        return schedule

    model = OmegaConf.to_container(cfg.model, resolve=True)
    network = build_network(model)
    if cfg.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss, optimizer = create(cfg.loss), create(cfg.optimizer)
    return Removal(network, loss, optimizer, scheduler, config={"model": model})


if __name__ == "__main__":
    cli.run(main)
