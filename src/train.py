"""Train a network that removes watermarks: ``python src/train.py model=unet optimizer=adam``.

A run that was broken off, by whatever, goes on where it stood with the same command and
``resume=auto``, or with ``python src/train.py ckpt=outputs/DATE/TIME``, and ends as if it had
never stopped. A run that is finished is left alone.
"""

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from omegaconf import DictConfig, OmegaConf

from clearmark import cli
from clearmark.sweeps import RESULTS

if TYPE_CHECKING:
    from lightning import Trainer
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from clearmark.checkpoints import Last
    from clearmark.removal import Removal


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@cli.entry
def main(cfg: DictConfig) -> float:
    """Train, test once, leave everything in the run's folder; returns a sweep's objective."""
    return train(cfg)[cfg.objective]


def train(cfg: DictConfig) -> dict[str, float]:
    """One run: returns the test figures, under the names they are logged by."""
    with cli.importing():
        import wandb.apis.public  # noqa: F401  # it looks through all modules there are: so first

        # isort: split
        import torch
        from lightning import seed_everything
        from lightning.pytorch.utilities import rank_zero_only

        from clearmark import budget, initial, results, resume, runs
        from clearmark.config import check, create, register_resolvers

    began = time.perf_counter()
    # Weights that fade, as those of a network that stays the identity, would slow a CPU tenfold.
    # First of all, since a thread of torch's takes this from the one that starts it.
    torch.set_flush_denormal(True)
    register_resolvers()
    cfg = resume.choose(cfg)
    check(cfg)
    budget.parse(cfg.budget)
    folder, ckpt = Path(cfg.folder), None
    if cfg.resume or cfg.ckpt:
        if (folder / RESULTS).is_file():
            print(f"finished before, and left as it is: {folder}")
            return dict(json.loads((folder / RESULTS).read_text(encoding="utf-8")))
        ckpt = resume.last(folder, anew=cfg.resume == resume.AUTO)
    seed_everything(cfg.seed, verbose=False)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
        os.environ["OMP_NUM_THREADS"] = str(cfg.threads)  # or Lightning sets another for ddp
    data, module = create(cfg.data), build(cfg)
    if cfg.init is not None and ckpt is None:
        initial.load(module.network, cfg)
    data.setup("fit")
    data.setup("test")
    folder.mkdir(parents=True, exist_ok=True)
    rank_zero_only(resume.hold)(folder)
    rank_zero_only(runs.start)(folder, cfg, data.broken, goes_on=ckpt is not None)
    if cfg.print_config:
        print(OmegaConf.to_yaml(cfg, resolve=True))
    trainer, callbacks = trainer_of(cfg, goes_on=ckpt is not None)
    try:
        trainer.fit(module, data, ckpt_path=ckpt, weights_only=True)
        pace, before = callbacks["pace"].figures(), callbacks["pace"].before  # a test forgets them
        best = callbacks["checkpoint"].best_model_path or None  # none on a full disk
        if best:  # loaded by the trainer, averaged weights would be those of before averaging
            module.load_state_dict(torch.load(best, "cpu", weights_only=True)["state_dict"])
        tested = trainer.test(module, data, verbose=False)[0]
    except SystemExit as stop:  # of Lightning at a signal
        if not trainer.is_global_zero:
            sys.exit()  # the first process says it
        leave(stop, callbacks["last"], folder)
    finally:
        torch.set_flush_denormal(False)
    figures = {**tested} | results.cost(module.network) | pace
    if (score := callbacks["checkpoint"].best_model_score) is not None:
        figures[callbacks["checkpoint"].monitor] = float(score)
    figures["wall_seconds"] = time.perf_counter() - began + before
    if trainer.is_global_zero:
        new = "photos" if OmegaConf.select(cfg, "watermark.mark") else "photos and marks"
        report(figures, folder, best, f"{new} never seen")
    return figures


def trainer_of(cfg: DictConfig, goes_on: bool) -> tuple["Trainer", dict[str, Any]]:
    """What trains and tests, and its callbacks by their names in the config."""
    from clearmark import budget, loggers
    from clearmark.config import create

    callbacks, made = create(cfg.callbacks), list(create(cfg.logger).values())
    for logger in made:
        if goes_on and isinstance(logger, loggers.WandbLogger):
            logger.go_on()
    limit = budget.parse(cfg.budget)
    if limit:
        callbacks["budget"] = budget.Spend(limit, callbacks["pace"])
    more = {"logger": made, "callbacks": list(callbacks.values())}
    return create(cfg.trainer, **more, **(budget.ENDLESS if limit else {})), callbacks


def report(figures: dict[str, float], folder: Path, best: str | None, what: str) -> None:
    """Print the figures first, then keep them: the disk may be full."""
    from clearmark import disk, results, runs

    results.show(figures, f"Test split: {what} ({folder})")
    print(f"pictures    {folder / 'panels' / 'test.png'}\ncheckpoint  {best}")
    print(f"to use it   python src/predict.py ckpt={shlex.quote(str(folder))} input=photo.jpg")
    with disk.going_on(folder / RESULTS):
        runs.write_json(folder / RESULTS, figures)
    disk.check(folder / RESULTS, folder / "metrics.csv", folder / "checkpoints" / runs.BEST)


def leave(stop: BaseException, last: "Last", folder: Path) -> NoReturn:
    """End with a line that tells what was saved, and with the status of what stopped the run."""
    saved = f"{last.path}; ckpt={folder} goes on" if last.path.is_file() else ""
    code = getattr(stop, "code", 0)
    status = code if isinstance(code, int) and code > 1 else 0
    status = status or 128 + (last.signal or signal.SIGINT)
    if status == cli.INTERRUPTED:
        raise KeyboardInterrupt(saved) from stop
    by = "SIGUSR1" if status == cli.AGAIN else "SIGTERM"
    kept = f"the network so far is in {saved}" if saved else "nothing was saved"
    print(f"stopped by {by}; {kept}", file=sys.stderr)
    sys.exit(status)


def build(cfg: DictConfig) -> "Removal":
    """The network with what trains it."""
    import torch

    from clearmark.basis import seen_as
    from clearmark.budget import STEPS
    from clearmark.config import build_network, create
    from clearmark.removal import Removal

    def scheduler(optimizer: "Optimizer", total_steps: float) -> "LRScheduler":
        cfg.total_steps = STEPS if cfg.budget else int(total_steps)
        schedule: LRScheduler = create(cfg.scheduler)(optimizer)
        return schedule

    model = OmegaConf.to_container(cfg.model, resolve=True)
    network = build_network(model)
    if cfg.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cfg.compile:
        refuse_without_compiler(cfg.trainer.accelerator)
        network.compile()
    loss, optimizer = create(cfg.loss), seen_as(cfg.basis, create(cfg.optimizer))
    return Removal(network, loss, optimizer, scheduler, config={"model": model})


def refuse_without_compiler(accelerator: str) -> None:
    """Try ``compile=true`` on a minus sign: the network itself is compiled at the first step."""
    import torch

    from clearmark.errors import UserError

    gpu = accelerator != "cpu" and torch.cuda.is_available()
    try:
        torch.compile(torch.neg)(torch.zeros(1, device="cuda" if gpu else "cpu"))
    except RuntimeError as error:
        why = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        raise UserError(
            f"compile=true: torch cannot compile here ({why}); leave it out, or install a C++ "
            "compiler (Debian: apt install g++)"
        ) from error


if __name__ == "__main__":
    sys.argv = cli.quote_paths(sys.argv, ("ckpt", "init", "mark"))
    cli.run(main)
