"""An Optuna study that goes on where it stood: each trial is one of the sweep's folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from clearmark import disk, sweeps


class GoOn(Callback):
    """Hydra's callback that begins the study anew with the values that were tried before.

    So the trials keep their numbers, and thus their folders: what is done there is read and not
    done again, what failed or was stopped is done, and only then are new values chosen.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        import optuna

        folder, sweeper = Path(config.hydra.sweep.dir), config.hydra.sweeper
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if not (path := folder / sweeps.STUDY).is_file():
            return
        given = {"study_name": sweeper.study_name, "direction": str(sweeper.direction)}
        engine = dict(sweeper.storage.engine_kwargs)
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine)
        before = optuna.load_study(study_name=sweeper.study_name, storage=storage).trials
        with disk.whole(path) as beside:
            storage = optuna.storages.RDBStorage(f"sqlite:///{beside}", engine)
            study = optuna.create_study(storage=storage, **given)
            for trial in before:
                study.enqueue_trial(trial.params or trial.system_attrs["fixed_params"])
        sweeper.sampler.seed += len(before)  # or it would choose the first values once more
