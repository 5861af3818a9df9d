"""Measure a trained network on photos and marks: ``python src/evaluate.py ckpt=RUN``."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from clearmark import cli
from clearmark.errors import UserError


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@cli.entry
def main(cfg: DictConfig) -> None:
    """Measure, print a table, leave figures and pictures in the evaluation's folder."""
    evaluate(cfg)


def evaluate(cfg: DictConfig) -> dict[str, float | str]:
    """Returns the figures of a split, under the names that training logs them by.

    ``protocol`` says by which conventions they were taken, see ``clearmark.metrics.Protocol``.
    """
    import torch
    from lightning import Trainer

    from clearmark import results, runs
    from clearmark.config import check, create, register_resolvers
    from clearmark.data import Resized
    from clearmark.metrics import PROTOCOLS, RemovalMetrics
    from clearmark.removal import Removal

    if cfg.split not in ("val", "test"):
        raise UserError(f"split={cfg.split} does not exist; use split=val or split=test")
    if cfg.protocol not in PROTOCOLS:
        raise UserError(f"protocol={cfg.protocol} does not exist; use {' or '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[cfg.protocol]
    register_resolvers()
    ckpt = runs.checkpoint_of(cli.path(cfg, "ckpt"))
    check(cfg)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    network = runs.load_network(ckpt)[0]
    if cfg.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = create(cfg.data)
    data.setup("validate" if cfg.split == "val" else "test")
    if protocol.side is not None:
        data.datasets[cfg.split] = Resized(data.datasets[cfg.split], protocol.side)
    folder = Path(cfg.folder)
    runs.start(folder, cfg, data.broken)
    callbacks = list(create(cfg.callbacks).values())
    trainer: Trainer = create(cfg.trainer, logger=False, callbacks=callbacks)
    measure = trainer.validate if cfg.split == "val" else trainer.test
    module = Removal(network)
    module.figures = RemovalMetrics(protocol)
    figures = {**measure(module, data, verbose=False)[0], **results.cost(network)}
    said: dict[str, float | str] = {"protocol": cfg.protocol, **figures}
    runs.write_json(folder / "results.json", said)
    title = f"{ckpt} on the {cfg.split} split, {cfg.protocol} protocol"
    results.show(figures, title, cfg.split, protocol)
    print(f"figures   {folder / 'results.json'}\npictures  {folder / 'panels'}")
    return said


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, ("ckpt",))
    cli.run(main)
