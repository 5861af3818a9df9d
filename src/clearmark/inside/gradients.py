"""How large the gradients of a network's layers are while it trains: logged, and as a picture."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from clearmark import disk
from clearmark.loggers import MetricsFile
from clearmark.removal import Removal

PREFIX = "gradient/"
PICTURE = "gradients.png"


def norms(network: nn.Module) -> dict[str, float]:
    """The L2 norm of the gradient of each layer's own parameters, by the layer's name.

    Layers without a gradient, as frozen ones, are left out.
    """
    found = {}
    for name, layer in network.named_modules():
        given = [p.grad for p in layer.parameters(recurse=False) if p.grad is not None]
        if given:
            found[name] = float(get_total_norm(given))
    return found


class GradientNorms(L.Callback):
    """Logs ``norms`` as ``gradient/LAYER``, as often as the trainer logs, before they are clipped.

    When training ends, ``gradients.png`` shows what ``metrics.csv`` has of them.

    Args:
        folder: where the PNG goes.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / PICTURE

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        assert isinstance(pl_module, Removal)
        every = trainer.log_every_n_steps or 1  # type: ignore[attr-defined]  # 0 in a dry run
        if (trainer.global_step + 1) % every == 0:
            found = norms(pl_module.network)
            pl_module.log_dict({f"{PREFIX}{name}": value for name, value in found.items()})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.save()  # which is done again after this
                table = history(logger.file)
                if not table.empty:
                    with disk.going_on(self.path):
                        write(table, self.path)


def history(path: Path) -> pd.DataFrame:
    """The norms in a run's ``metrics.csv``, a row for each logged step and a column for each layer.

    Empty if there are none, or no file.
    """
    log = pd.read_csv(path).set_index("step") if path.is_file() else pd.DataFrame()
    named = [name for name in log if str(name).startswith(PREFIX)]
    return log[named].dropna(how="all").rename(columns=lambda name: name[len(PREFIX) :])


def show(axis: Axes, table: pd.DataFrame) -> None:
    """Norms as a picture: a row for each layer, in the order of the names, and steps to the right.

    Args:
        axis: where.
        table: as ``history`` gives it.
    """
    values = table.to_numpy(float).T
    good = values[np.isfinite(values) & (values > 0)]
    span = (good.min(), max(good.max(), 1.001 * good.min())) if good.size else (0.1, 1.0)
    edges = np.arange(len(table) + 1), np.arange(len(table.columns) + 1)
    drawn = axis.pcolormesh(
        *edges, np.ma.masked_invalid(values), norm=LogNorm(*span), cmap="viridis"
    )
    axis.invert_yaxis()
    axis.set_yticks(edges[1][:-1] + 0.5, list(table.columns), fontsize=7)
    shown = np.unique(np.linspace(0, len(table) - 1, 8).round().astype(int))
    axis.set_xticks(shown + 0.5, [f"{table.index[at]:.0f}" for at in shown], fontsize=7)
    axis.set(xlabel="step", title="L2 norm of the gradient of each layer")
    figure = axis.get_figure()
    if figure is not None:
        figure.colorbar(drawn, ax=axis)


def write(table: pd.DataFrame, path: Path) -> None:
    """Write the picture as PNG; it is whole or not there.

    Raises:
        OSError: it cannot be written.
    """
    figure = Figure(figsize=(9, 1.5 + 0.16 * len(table.columns)), layout="constrained")
    show(figure.subplots(), table)
    with disk.whole(path) as beside:
        figure.savefig(beside, dpi=100, format="png")
