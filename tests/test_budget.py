"""Training for a budget: it is spent, the schedule ends with it, and networks compare on it."""

import csv
import itertools
import json
import os
import subprocess
import sys
from statistics import mean
from types import SimpleNamespace

import cv2
import pytest
import tiny
import torch
from torch import nn

from clearmark import budget, callbacks, comparison, runs
from clearmark.config import create
from clearmark.errors import UserError

BATCH = 2
ALL, QUIET = "trainer.limit_train_batches=1.0", "~callbacks.panels"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("data") / "photos")


def train(folder, photos, *more, model="resnet"):
    words = [*tiny.overrides(photos, model), "data.samples_per_epoch=14", ALL, QUIET]
    return tiny.entry_point("train").train(tiny.config(*words, f"folder={folder}", *more))


def rows(folder, name, file="metrics.csv"):
    with (folder / file).open() as table:
        return [row for row in csv.DictReader(table) if row.get(name)]


def schedule(folder):
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return content["lr_schedulers"][0]


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        *(("90s", 90, "seconds"), ("10min", 600, "seconds"), ("1.5h", 5400, "seconds")),
        *(("60000samples", 60000, "samples"), ("6e4 samples", 60000, "samples")),
        *(("2PFLOP", 1e6, "gmac"), ("2GFLOPs", 1, "gmac"), ("500mflop", 0.25, "gmac")),
        ("3e9FLOP", 1.5, "gmac"),
    ],
)
def test_what_a_budget_says(text, amount, unit):
    assert budget.parse(text) == (pytest.approx(amount), unit)


def test_no_budget():
    assert budget.parse(None) is None


@pytest.mark.parametrize(
    "text",
    [
        *(10, "10", "10m", "min", "0s", "-5min", "10minutes", "1e999samples", "nan s", "", True),
        *("1..5h", "2 PFLOP/s", "10min,20min"),
    ],
)
def test_what_is_no_budget(text):
    with pytest.raises(UserError, match=r"no amount with a unit; give a time .*budget=10min"):
        budget.parse(text)


def test_a_wrong_one_leaves_no_folder(photos, tmp_path):
    with pytest.raises(UserError, match="budget=10 is no amount with a unit"):
        train(tmp_path / "run", photos, "budget=10")
    assert not (tmp_path / "run").exists()


def test_samples_are_spent_and_no_more(photos, tmp_path):
    figures = train(tmp_path, photos, "budget=41samples")
    assert figures["samples_seen"] == 42
    found = rows(tmp_path, "val/psnr_gain")
    parts = [int(float(row["train/samples"]) / 41 * 8) for row in found]
    assert parts == list(range(1, 9)), "a validation after each eighth"
    assert [int(row["step"]) for row in found] == [2, 5, 7, 10, 12, 15, 17, 20]
    assert float(found[-1]["train/gmac"]) == pytest.approx(figures["training_gmac"])
    assert float(found[-1]["train/seconds"]) == pytest.approx(figures["training_seconds"])


@pytest.mark.parametrize("scheduler", tiny.choices("scheduler"))
def test_every_schedule_comes_to_its_end(scheduler, photos, tmp_path):
    more = ("optimizer=sgd", "optimizer.lr=0.1", "budget=10samples")
    train(tmp_path, photos, f"scheduler={scheduler}", *more)
    assert schedule(tmp_path)["last_epoch"] == budget.STEPS
    # As the same schedule of so many steps, at the share that was spent before each step.
    cfg = tiny.config(*tiny.overrides(photos), f"scheduler={scheduler}", *more[:2])
    cfg.total_steps = budget.STEPS
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    alone = rates_of(cfg, optimizer)
    found = [float(row["lr-SGD"]) for row in rows(tmp_path, "lr-SGD")]
    assert found == pytest.approx([alone[k * budget.STEPS // 5] for k in range(5)])


def rates_of(cfg, optimizer):
    """The learning rate of each step of a schedule."""
    made, rates = create(cfg.scheduler)(optimizer), []
    for _ in range(budget.STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return rates


@pytest.mark.parametrize("slow", [1, 3])
def test_time_is_spent_whatever_the_pace(slow, photos, tmp_path, monkeypatch):
    ticks = itertools.count(step=slow)
    clock = SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(callbacks, "time", clock)
    figures = train(tmp_path, photos, "budget=0.5min", "callbacks.last.every=1000")
    assert figures["training_seconds"] == 30  # a step lasts one look at the clock
    assert figures["samples_seen"] == 30 / slow * BATCH
    assert schedule(tmp_path)["last_epoch"] == budget.STEPS
    found = [float(row["train/seconds"]) for row in rows(tmp_path, "val/psnr_gain")]
    assert len(found) == 8
    assert all(0 <= at - 30 * part / 8 < slow for part, at in enumerate(found, start=1))


def test_the_real_clock(photos, tmp_path):
    figures = train(tmp_path, photos, "budget=0.3s")
    last, steps = 0.3, figures["samples_seen"] / BATCH
    assert last <= figures["training_seconds"] < last + max(1, 50 * last / steps)
    assert schedule(tmp_path)["last_epoch"] == budget.STEPS


def test_accumulated_gradients_and_a_budget(photos, tmp_path):
    figures = train(tmp_path, photos, "budget=24samples", "trainer.accumulate_grad_batches=3")
    assert figures["samples_seen"] == 24
    assert schedule(tmp_path)["last_epoch"] == budget.STEPS


def multiply_adds(network, side):
    """Of a forward pass, layer by layer."""
    total = 0

    def count(layer, given, made):
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            high, wide = layer.kernel_size
            total += made.numel() * layer.in_channels // layer.groups * high * wide
        elif isinstance(layer, nn.Linear):
            total += made.numel() * layer.in_features
        else:
            assert not list(layer.parameters(recurse=False)) or "Conv" not in type(layer).__name__

    for layer in network.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    return total


def test_equal_flops_give_samples_in_inverse_proportion(photos, tmp_path):
    amount, seen = 2e7, {}
    for model, more in (("resnet", ()), ("resnet", ("model.width=8",)), ("unet", ())):
        folder = tmp_path / f"{model}{len(more)}"
        figures = train(folder, photos, f"budget={amount / 1e9}GFLOP", *more, model=model)
        network, _ = runs.load_network(folder)
        each = 6 * multiply_adds(network, 32)  # 2 FLOPs, three times those of a forward
        assert 0 <= figures["samples_seen"] * each - amount < BATCH * each
        assert figures["training_gmac"] == pytest.approx(figures["samples_seen"] * each / 2e9)
        assert schedule(folder)["last_epoch"] == budget.STEPS
        seen[folder.name] = figures["samples_seen"]
    assert len(set(seen.values())) == 3


def test_the_interval_is_students():
    assert comparison.mean([1, 2, 3]) == (
        2,
        pytest.approx(2 - 2.4841, abs=1e-4),
        *[pytest.approx(4.4841, abs=1e-4)],
    )
    assert [str(v) for v in comparison.mean([5])] == ["5.0", "nan", "nan"]


@pytest.mark.slow
def test_the_command(photos, tmp_path):
    """Two networks, two seeds, one process."""
    words = [w for w in tiny.SMALL if "panels" not in w]
    words += [f"data.root={photos}", ALL, "model=unet,resnet", "seed=3,5", "budget=8samples"]
    words += [QUIET, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = subprocess.run(
        [sys.executable, "src/train.py", "experiment=equal_budget", *words],
        cwd=tiny.ROOT,
        env=os.environ | {"HYDRA_FULL_ERROR": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder, found = tmp_path / "sweep", {}
    configs = [(folder / str(job) / "config.yaml").read_text() for job in range(4)]
    assert ["UNet" in config for config in configs] == [True, False] * 2, "seed by seed"
    for path in sorted(folder.glob("*/results.json")):
        config = (path.parent / "config.yaml").read_text()
        network = "unet" if "UNet" in config else "resnet"
        found.setdefault(network, []).append(json.loads(path.read_text()))
    assert {network: len(of) for network, of in found.items()} == {"unet": 2, "resnet": 2}
    sweep = comparison.read(folder / "sweep.csv")
    assert sweep.choice == "model"
    assert sweep.runs.keys() == found.keys()
    page = (folder / "table.md").read_text()
    for network, (one, two) in found.items():
        gains = one["test/psnr_gain"], two["test/psnr_gain"]
        assert gains[0] != gains[1]
        # t of one degree of freedom times the standard error of two values
        half = 12.7062 * abs(gains[0] - gains[1]) / 2
        ratios = [run["test/rmsew"] / run["test/rmsew_input"] for run in (one, two)]
        row = next(line for line in page.splitlines() if line.startswith(f"| {network} | 2 |"))
        cells = row.split(" | ")
        low, high = mean(gains) - half, mean(gains) + half
        assert cells[2] == f"{mean(gains):,.2f} [{low:,.2f}, {high:,.2f}]"
        assert cells[3].startswith(f"{mean(ratios):.3f} ")
        assert one["samples_seen"] == float(cells[5]) == 8
        assert one["training_gmac"] == two["training_gmac"]
        assert one["gmac"] > one["training_gmac"] / (3 * 8)
        assert cells[-1] == f"{one['parameters']:,.0f} |"
    assert page.startswith("# Equal budget: 8samples\n")
    best = max(found, key=lambda network: mean(run["test/psnr_gain"] for run in found[network]))
    assert page.splitlines()[4].startswith(f"| {best} | 2 | ")
    assert "no interval" not in page
    assert min(cv2.imread(str(folder / "figure.png")).shape[:2]) > 300
    assert str(folder / "figure.png") in done.stdout


def test_one_seed_has_no_interval(photos, tmp_path):
    figures = train(tmp_path / "0", photos, "budget=8samples")
    with (tmp_path / "sweep.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["job", "minutes", "failed", *figures])
        writer.writeheader()
        writer.writerow({"job": "0", "minutes": 1, "failed": "", **figures})
        writer.writerow({"job": "1", "failed": "out of memory"})
    text = comparison.write(tmp_path / "sweep.csv", "8samples")
    assert text.splitlines()[2].startswith("| as typed | 1 | ")
    assert len(text.splitlines()) == 3
    page = (tmp_path / "table.md").read_text()
    assert "A row of one seed has no interval." in page
    assert "[" not in page.splitlines()[4]
