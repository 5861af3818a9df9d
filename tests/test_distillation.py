"""Distillation: the teacher's answers stand in for the truth, and the teacher stays as it is."""

import pytest
import tiny
import torch

from clearmark import runs
from clearmark.config import create, register_resolvers
from clearmark.distillation import Distilled
from clearmark.errors import UserError
from clearmark.losses import MAE, MaskBCE, WeightedSum


@pytest.fixture(scope="module")
def batch():
    draw = torch.Generator().manual_seed(0)
    marked, clean = (torch.rand(2, 3, 48, 64, generator=draw) for _ in range(2))
    mask = (torch.rand(2, 1, 48, 64, generator=draw) > 0.5).float()
    return {"marked": marked, "clean": clean, "mask": mask}


@pytest.fixture(scope="module")
def student():
    register_resolvers()
    torch.manual_seed(0)
    return create(tiny.config("model=unet", *tiny.NARROW["unet"]).model)


def test_the_teacher_takes_the_place_of_the_truth(batch, student):
    teacher, _ = runs.load_network("unet")
    with torch.no_grad():
        told = teacher(batch["marked"])
    answer = student(batch["marked"])
    expected = (answer.image - told.image).abs().mean()
    torch.testing.assert_close(Distilled("unet", MAE())(answer, batch), expected)
    cross_entropy = torch.nn.functional.binary_cross_entropy(
        torch.sigmoid(answer.mask_logits), torch.sigmoid(told.mask_logits)
    )
    torch.testing.assert_close(Distilled("unet", MaskBCE())(answer, batch), cross_entropy)
    with torch.no_grad():
        assert Distilled("unet", MAE())(told, batch) == 0


def test_only_the_student_learns_and_is_kept(batch, student):
    loss = Distilled("unet", MAE())
    loss(student(batch["marked"]), batch).backward()
    assert not loss.state_dict()
    assert not list(loss.parameters())
    assert any(weights.grad.abs().max() > 0 for weights in student.parameters())
    assert all(weights.grad is None for weights in loss._teacher[0].parameters())


def test_a_teacher_that_is_none_is_named():
    with pytest.raises(UserError, match="teacher=unett does not exist; did you mean teacher=unet"):
        Distilled("unett", MAE())


def test_the_experiment(composed):
    cfg = composed("train", "experiment=distill", "teacher=unet")
    loss = create(cfg.loss)
    assert isinstance(loss, WeightedSum)
    assert type(loss.losses["teacher"]._teacher[0]).__name__ == "UNet"
