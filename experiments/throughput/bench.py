"""How fast samples are made, how much of the network's speed training keeps, how soon it starts.

python experiments/throughput/bench.py synthesis | fit | waits | levers | startup
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from clearmark import cli  # isort: skip  # first: it settles how torch's threads wait

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig, OmegaConf

from clearmark.basis import seen_as
from clearmark.config import build_network, create, register_resolvers
from clearmark.data import as_tensors
from clearmark.removal import Removal

ROOT = Path(__file__).resolve().parents[2]
LEVERS = (
    *("channels_last=false", "optimizer.fused=false", "compile=true", "precision=bf16"),
    *("threads=1", "data.workers=0", "data.workers=1", "trainer.log_every_n_steps=1"),
)
"""What may make training faster or slower, each as it is typed."""
WAITED = "[_TrainingEpochLoop].train_dataloader_next"
WARM = 6000
"""Samples before the clock starts: letters are drawn, and photos decoded, once and kept."""


def config(*overrides: str) -> DictConfig:
    """The training config, as the command line would make it."""
    register_resolvers()
    folder = f"folder={tempfile.mkdtemp()}"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", [folder, "name=bench", *overrides])


def spread(values: list[float], digits: int) -> str:
    """Median, and the range."""
    cells = [f"{value:.{digits}f}" for value in (median(values), min(values), max(values))]
    return f"{cells[0]} | {cells[1]} to {cells[2]}"


def synthesis(repeats: int, samples: int) -> None:
    """Milliseconds for a marked 256x256 photo out of the cache, on one core."""
    torch.set_num_threads(1)
    print("| watermark | ms a sample | range |\n|---|---|---|")
    for path in sorted((ROOT / "conf" / "watermark").glob("*.yaml")):
        mark = ["watermark.mark=Jane Doe"] if path.stem == "own" else []
        cfg = config(f"watermark={path.stem}", *mark, "data.unmarked=0", "data.crop=${data.size}")
        dataset = create(cfg.data).dataset("train")
        for index in range(WARM):
            dataset[(repeats + 1, index)]
        times = []
        for repeat in range(repeats + 1):
            began = time.perf_counter()
            for index in range(samples):
                dataset[(repeat, index)]
            times.append((time.perf_counter() - began) / samples * 1000)
        print(f"| {path.stem} | {spread(times[1:], 2)} |", flush=True)


class Stopwatch(L.Callback):
    """Samples per second from the end of step ``skip`` to the end of the last one."""

    def __init__(self, skip: int) -> None:
        self.skip, self.steps, self.began, self.ended = skip, 0, 0.0, 0.0

    def on_train_batch_end(self, *args: object) -> None:
        self.steps += 1
        self.ended = time.perf_counter()
        if self.steps == self.skip:
            self.began = self.ended

    def pace(self, batch_size: int) -> float:
        return (self.steps - self.skip) * batch_size / (self.ended - self.began)


def module_of(cfg: DictConfig) -> Removal:
    """What training trains."""
    model = OmegaConf.to_container(cfg.model, resolve=True)
    network = build_network(model)
    if cfg.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cfg.compile:
        network.compile()
    return Removal(network, create(cfg.loss), seen_as(cfg.basis, create(cfg.optimizer)))


def train(cfg: DictConfig, data: L.LightningDataModule, steps: int, **more: Any) -> None:
    """Lightning's loop on fresh samples, with the default callbacks and ``more`` of them."""
    callbacks = [*create(cfg.callbacks).values(), *more.pop("callbacks", ())]
    loggers = list(create(cfg.logger).values())
    limits = {"max_steps": steps, "limit_val_batches": 0}
    trainer = create(cfg.trainer, logger=loggers, callbacks=callbacks, **limits, **more)
    trainer.fit(module_of(cfg), data)


def fit_pace(cfg: DictConfig, data: L.LightningDataModule, steps: int, skip: int) -> float:
    """Samples per second of Lightning's loop."""
    watch = Stopwatch(skip)
    train(cfg, data, steps, callbacks=[watch])
    return watch.pace(cfg.data.batch_size)


def bare_pace(cfg: DictConfig, batch: dict[str, torch.Tensor], steps: int, skip: int) -> float:
    """Samples per second of the same network, loss and optimizer on one ready batch."""
    module = module_of(cfg).train()
    assert module.loss is not None
    assert module.optimizer is not None
    optimizer = module.optimizer(module.network.parameters())
    for step in range(steps):
        if step == skip:
            began = time.perf_counter()
        loss = module.loss(module(batch["marked"]), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.network.parameters(), cfg.trainer.gradient_clip_val)
        optimizer.step()
    return (steps - skip) * cfg.data.batch_size / (time.perf_counter() - began)


def warm(overrides: list[str]) -> tuple[DictConfig, L.LightningDataModule]:
    """The config, and its samples once letters are drawn and photos decoded."""
    cfg = config("logger=csv", *overrides)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    data = create(cfg.data)
    data.setup("fit")
    for index in range(WARM):  # workers begin with what this process has drawn
        data.datasets["train"][(1, index)]
    return cfg, data


def waits(repeats: int, steps: int, overrides: list[str]) -> None:
    """Milliseconds that steps wait for their samples, and how many of them do."""
    print("| processes | ms a step, median | range of means | steps that waited over 5 ms |")
    print("|---|---|---|---|")
    for workers in (1, 2):
        cfg, data = warm([*overrides, f"data.workers={workers}"])
        means, every = [], []
        for _ in range(repeats):
            profiler = SimpleProfiler(dirpath=cfg.folder, filename="waits")  # or it prints
            train(cfg, data, steps, profiler=profiler)
            taken = profiler.recorded_durations[WAITED][steps // 4 : steps]
            means.append(1000 * sum(taken) / len(taken))
            every += [1000 * seconds for seconds in taken]
        late = sum(waited > 5 for waited in every)
        cells = f"{median(every):.2f} | {min(means):.2f} to {max(means):.2f}"
        print(f"| {workers} | {cells} | {late} of {len(every)} |", flush=True)


def fit(repeats: int, steps: int, overrides: list[str]) -> None:
    """Alternates both loops in this process; a shared machine slows both alike."""
    cfg, data = warm(overrides)
    samples = [data.datasets["train"][(0, index)] for index in range(cfg.data.batch_size)]
    collated = torch.utils.data.default_collate(samples)
    batch, skip = as_tensors(collated, torch.float32), steps // 4
    both = []
    for _ in range(repeats):
        both.append((fit_pace(cfg, data, steps, skip), bare_pace(cfg, batch, steps, skip)))
    print("| | median | range |\n|---|---|---|")
    print(f"| trainer.fit, samples/s | {spread([a for a, _ in both], 1)} |")
    print(f"| bare loop, samples/s | {spread([b for _, b in both], 1)} |")
    print(f"| ratio | {spread([a / b for a, b in both], 3)} |")


def levers(repeats: int, steps: int, overrides: list[str]) -> None:
    """Samples per second with one thing not as by default, in turns with the default."""
    data = warm(overrides)[1]
    threads = torch.get_num_threads()
    print("| | samples/s | range | default | range | ratio | range |")
    print("|---|---|---|---|---|---|---|")
    for lever in LEVERS:
        both: dict[str, list[float]] = {lever: [], "": []}
        for _ in range(repeats):
            for typed, found in both.items():
                cfg = config("logger=csv", *overrides, *typed.split())
                torch.set_num_threads(cfg.threads or threads)
                data.workers = cfg.data.workers
                found.append(fit_pace(cfg, data, steps, steps // 4))
        ratios = [a / b for a, b in zip(*both.values(), strict=True)]
        cells = (spread(both[lever], 1), spread(both[""], 1), spread(ratios, 2))
        print(f"| {lever} | {' | '.join(cells)} |", flush=True)


def startup(repeats: int) -> None:
    """Seconds from the command to the first finished training step, and of --help."""
    times: dict[str, list[float]] = {"first training step": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            began = time.time()
            command = [sys.executable, "src/train.py", f"hydra.run.dir={folder}"]
            command.append("callbacks.last.every=1")
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as run:
                while not Path(folder, "checkpoints", "last.ckpt").exists() and run.poll() is None:
                    time.sleep(0.02)
                times["first training step"].append(time.time() - began)
                run.kill()
            if run.returncode != -signal.SIGKILL:
                raise SystemExit(f"{' '.join(command)} ended by itself")
    for name in ("train", "evaluate", "predict", "gallery"):
        times[f"{name}.py --help"] = []
        for _ in range(repeats):
            began = time.time()
            command = [sys.executable, f"src/{name}.py", "--help"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            times[f"{name}.py --help"].append(time.time() - began)
    print("| | seconds | range |\n|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {spread(values, 2)} |")


def main() -> None:
    """Measure what the command line names, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("synthesis", "fit", "waits", "levers", "startup"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200, help="of one synthesis repeat")
    parser.add_argument("--steps", type=int, default=40, help="of one training")
    parser.add_argument("overrides", nargs="*", help="of the config of training")
    args = parser.parse_intermixed_args()
    cli.keep_freed_memory()  # as the entry points do
    if args.what == "synthesis":
        synthesis(args.repeats, args.samples)
    elif args.what == "startup":
        startup(args.repeats)
    else:
        measured = {"fit": fit, "waits": waits, "levers": levers}[args.what]
        measured(args.repeats, args.steps, args.overrides)


if __name__ == "__main__":
    main()
