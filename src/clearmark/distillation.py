"""Distillation (Hinton et al., 2015): learning from what a larger network makes of a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clearmark.losses import Batch, Loss
from clearmark.models.base import Restoration


class Distilled(Loss):
    """A loss against the teacher's restored picture and mask, in place of the true ones.

    Args:
        teacher: run folder, checkpoint or released model; its weights stay as they are, and are not
            part of what a run saves.
        loss: on the picture or on the mask.

    Raises:
        UserError: ``teacher`` cannot be loaded.
    """

    name = "distilled"

    def __init__(self, teacher: str, loss: Loss) -> None:
        from clearmark.runs import load_network  # which knows of losses

        super().__init__()
        network = load_network(teacher, "teacher")[0].requires_grad_(False)
        self._teacher: list[nn.Module] = [network]  # in a list, or it would be a part of the run
        self.loss = loss

    def value(self, restored: Restoration, batch: Batch) -> Tensor:
        """The loss against what the teacher makes of ``batch``, whose ``marked`` it is given."""
        with torch.no_grad():
            told = self._teacher[0].to(batch["marked"])(batch["marked"])
        taught = dict(batch) | {"clean": told.image}
        if told.mask is not None:
            taught["mask"] = told.mask
        return self.loss(restored, taught)
