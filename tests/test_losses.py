import math

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.distributions import Bernoulli, kl_divergence

from clearmark import losses
from clearmark.errors import UserError
from clearmark.metrics import per_image
from clearmark.models.base import Restoration

PIXEL_LOSSES = [
    losses.MSE,
    losses.MAE,
    losses.RMSE,
    losses.Charbonnier,
    losses.CrossEntropy,
    losses.SSIMLoss,
    losses.EdgeLoss,
]
LOSSES = [*PIXEL_LOSSES, losses.MaskBCE, losses.MaskDice]


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    clean = torch.rand(3, 3, 16, 20, generator=g)
    mask = torch.zeros(3, 1, 16, 20)
    mask[0, :, 2:9, 3:12] = 1
    mask[1, :, 10:12, 5:7] = 1  # the third image bears no mark
    return {
        "clean": clean,
        "marked": 0.5 * clean + 0.5 * (1 - mask) * clean + 0.5 * mask,
        "mask": mask,
    }


@pytest.fixture
def restored(batch):
    g = torch.Generator().manual_seed(1)
    noise = torch.randn(batch["clean"].shape, generator=g)
    return Restoration(batch["clean"] + 0.3 * noise, torch.randn(3, 1, 16, 20, generator=g))


def scalar(loss, prediction, target):
    """The loss of a constant picture against another."""
    picture = torch.full((1, 3, 8, 8), float(target))
    return loss(Restoration(torch.full_like(picture, float(prediction))), {"clean": picture})


@pytest.mark.parametrize("cls", PIXEL_LOSSES)
def test_a_perfect_picture_has_no_loss(cls, batch):
    assert cls()(Restoration(batch["clean"]), batch) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("cls", PIXEL_LOSSES)
def test_a_step_along_the_negative_gradient_helps(cls, batch, restored):
    image = restored.image.requires_grad_()
    loss = cls()(Restoration(image), batch)
    (grad,) = torch.autograd.grad(loss, image)
    assert loss > 0
    assert grad.isfinite().all()
    assert cls()(Restoration(image - 1e-3 * grad / grad.norm()), batch) < loss


def test_closed_forms():
    assert scalar(losses.MSE(), 0.7, 0.2) == pytest.approx(0.25)
    assert scalar(losses.MAE(), 0.7, 0.2) == pytest.approx(0.5)
    assert scalar(losses.Charbonnier(eps=0.1), 0.7, 0.2) == pytest.approx(
        math.hypot(0.5, 0.1) - 0.1
    )
    assert scalar(losses.EdgeLoss(), 0.7, 0.2) == pytest.approx(0)  # an even shift has no edges
    # Two even pictures have no structure; what is left is SSIM's luminance term.
    luminance = (2 * 0.7 * 0.2 + 1e-4) / (0.7**2 + 0.2**2 + 1e-4)
    assert scalar(losses.SSIMLoss(), 0.7, 0.2) == pytest.approx(1 - luminance, abs=1e-4)


def test_rmse_is_the_figure_that_is_reported(batch, restored):
    inside = Restoration(restored.image.clamp(0, 1))
    figures = per_image(inside, batch)
    assert losses.RMSE(eps=0)(inside, batch) == pytest.approx(figures["rmse"].mean() / 255)
    rmsew = figures["rmsew"].nanmean() / 255  # the third picture bears no mark and has none
    assert losses.RMSE(eps=0, where="marked")(inside, batch) == pytest.approx(rmsew)
    assert losses.RMSE(eps=0.1)(inside, batch) < losses.RMSE(eps=0)(inside, batch)


def test_edge_sees_a_line_on_both_sides():
    clean = torch.zeros(1, 3, 8, 8)
    image = clean.clone()
    image[..., 4] = 0.5
    # In each of 8 rows the line is entered and left: 2 of the 8 differences to the right are .5.
    assert losses.EdgeLoss()(Restoration(image), {"clean": clean}) == pytest.approx(2 * 0.5 / 8)


def test_cross_entropy_is_the_divergence_of_two_coins():
    for p, y in [(0.3, 0.6), (0.01, 0.9), (0.5, 0.5)]:
        assert scalar(losses.CrossEntropy(), p, y) == pytest.approx(
            kl_divergence(Bernoulli(torch.tensor(y)), Bernoulli(torch.tensor(p))).item(), abs=1e-6
        )


@pytest.mark.parametrize("y", [0.0, 0.2, 1.0])
def test_cross_entropy_is_convex_and_smallest_at_the_target_beyond_0_and_1_too(y):
    p = torch.linspace(-1, 2, 3001, dtype=torch.float64, requires_grad=True)
    error = losses.CrossEntropy().error(p, torch.full_like(p, y))
    (grad,) = torch.autograd.grad(error.sum(), p)
    assert error.isfinite().all()
    assert p[error.argmin()].item() == pytest.approx(y, abs=3e-3)
    assert (grad.diff() > -1e-9).all()  # convex
    assert (grad[p < -0.01] < 0).all()  # pulled back from outside, whatever the target
    assert (grad[p > 1.01] > 0).all()
    # The gradient is that of the value, so the pieces meet without a kink.
    slope = (error[2:] - error[:-2]) / (p[2:] - p[:-2])
    smooth = (p[1:-1] < -0.01) | ((p[1:-1] > 0.1) & (p[1:-1] < 0.9)) | (p[1:-1] > 1.01)
    torch.testing.assert_close(slope[smooth], grad[1:-1][smooth], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cls", [losses.MSE, losses.MAE, losses.Charbonnier, losses.CrossEntropy])
def test_where_counts_its_own_pixels_only(cls, batch, restored):
    mask = batch["mask"].expand_as(restored.image).bool()
    error = cls().error(restored.image, batch["clean"])
    assert cls(where="marked")(restored, batch) == pytest.approx(error[mask].mean().item())
    assert cls(where="unmarked")(restored, batch) == pytest.approx(error[~mask].mean().item())

    worse = Restoration(restored.image + ~mask * torch.randn_like(restored.image))
    assert cls(where="marked")(worse, batch) == cls(where="marked")(restored, batch)
    assert cls()(worse, batch) != cls()(restored, batch)


@pytest.mark.parametrize("cls", PIXEL_LOSSES)
def test_no_marked_pixel_is_no_loss_and_no_nan(cls, batch, restored):
    empty = batch | {"mask": torch.zeros_like(batch["mask"])}
    image = restored.image.requires_grad_()
    loss = cls(where="marked")(Restoration(image), empty)
    (grad,) = torch.autograd.grad(loss, image)
    assert loss == 0
    assert (grad == 0).all()


@pytest.mark.parametrize("cls", PIXEL_LOSSES)
def test_of_chooses_which_picture_is_looked_at(cls, batch):
    pictures = [batch["clean"] + shift * batch["marked"].flip(-1) for shift in (0.0, 0.1)]
    answer = Restoration(pictures[0], None, filled=pictures[1])
    for of, picture in zip(("image", "filled"), pictures, strict=True):
        assert cls(of=of)(answer, batch) == cls()(Restoration(picture), batch)
        assert cls(of=of)(Restoration(picture), batch) == cls()(Restoration(picture), batch)
    with pytest.raises(UserError, match="of='mask' is unknown"):
        cls(of="mask")


def test_an_unknown_where_is_refused():
    with pytest.raises(UserError, match=r"mse: where='inside' is unknown; use one of"):
        losses.MSE(where="inside")


def test_mask_bce_matches_torch_and_focal_forgives_what_is_right(batch, restored):
    logits, mask = restored.mask_logits, batch["mask"]
    plain = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))(logits, mask)
    assert losses.MaskBCE(pos_weight=3)(restored, batch) == pytest.approx(plain.item())
    p_right = torch.where(mask > 0, logits.sigmoid(), 1 - logits.sigmoid())
    focal = -((1 - p_right) ** 2 * p_right.log()).mean()
    assert losses.MaskBCE(gamma=2)(restored, batch) == pytest.approx(focal.item(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_mask_bce_has_a_gradient_at_extreme_logits(gamma, batch):
    logits = torch.tensor([-200.0, 200.0, 0.0]).view(3, 1, 1, 1).repeat(1, 1, 16, 20)
    logits.requires_grad_()
    loss = losses.MaskBCE(gamma=gamma)(Restoration(batch["clean"], logits), batch)
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert grad.isfinite().all()


@pytest.mark.parametrize("pooled", [False, True])
def test_dice_lies_between_right_and_wrong(pooled, batch, restored):
    dice = losses.MaskDice(pooled=pooled)
    right = Restoration(batch["clean"], 200 * (batch["mask"] - 0.5))
    wrong = Restoration(batch["clean"], -200 * (batch["mask"] - 0.5))
    assert dice(right, batch) == pytest.approx(0, abs=1e-6)
    assert 0.95 < dice(wrong, batch) <= 1
    assert 0 < dice(restored, batch) < dice(wrong, batch)


def test_dice_by_hand():
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, 0, 0] = 1  # 4 pixels, and an image without a mark
    half = Restoration(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4))
    each = [1 - (2 * 2 + 1) / (8 + 4 + 1), 1 - 1 / (8 + 1)]
    assert losses.MaskDice()(half, {"mask": mask}) == pytest.approx(sum(each) / 2)
    pooled = 1 - (2 * 2 + 1) / (16 + 4 + 1)
    assert losses.MaskDice(pooled=True)(half, {"mask": mask}) == pytest.approx(pooled)


@pytest.mark.parametrize("cls", [losses.MaskBCE, losses.MaskDice])
def test_a_mask_loss_says_what_to_do_about_a_network_without_a_mask(cls, batch):
    with pytest.raises(UserError, match=rf"loss {cls.name} .*no.*; choose model=unet, or .*"):
        cls()(Restoration(batch["clean"]), batch)


def sum_of(**weights):
    terms = {
        "image": {"weight": 1.0, "loss": {"_target_": "clearmark.losses.MAE"}},
        "mark": {"weight": 1.0, "loss": {"_target_": "clearmark.losses.MAE", "where": "marked"}},
        "mask": {"weight": 1.0, "loss": {"_target_": "clearmark.losses.MaskDice"}},
    }
    for name, weight in weights.items():
        terms[name]["weight"] = weight
    return OmegaConf.create({"_target_": "clearmark.losses.WeightedSum", "terms": terms})


def test_a_weighted_sum_adds_up_and_shows_its_terms(batch, restored):
    loss = instantiate(sum_of(image=2.0, mask=0.5))
    terms = loss.terms(restored, batch)
    assert list(terms) == ["image", "mark", "mask"]
    assert terms["image"] == pytest.approx(2 * losses.MAE()(restored, batch).item())
    assert terms["mask"] == pytest.approx(0.5 * losses.MaskDice()(restored, batch).item())
    assert loss(restored, batch) == pytest.approx(sum(terms.values()).item())
    assert losses.MSE().terms(restored, batch).keys() == {"mse"}


def test_a_term_of_weight_0_needs_no_mask(batch):
    loss = instantiate(sum_of(mask=0))
    assert loss.terms(Restoration(batch["clean"]), batch).keys() == {"image", "mark"}


def test_a_sum_refuses_what_cannot_be_meant():
    mae = losses.MAE()
    with pytest.raises(UserError, match="give one"):
        losses.WeightedSum({"image": {"loss": mae, "weight": 0}})
    with pytest.raises(UserError, match=r"term image has weight -1; use 0 or more"):
        losses.WeightedSum({"image": {"loss": mae, "weight": -1}})
    with pytest.raises(UserError, match=r"image has keys \['loss'\]; it needs loss and weight"):
        losses.WeightedSum({"image": {"loss": mae}})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cls", LOSSES)
def test_under_autocast_a_loss_is_computed_in_float32(cls, dtype, batch, restored):
    half = Restoration(restored.image.to(dtype), restored.mask_logits.to(dtype))
    expected = cls()(Restoration(half.image.float(), half.mask_logits.float()), batch)
    half.image.requires_grad_()
    half.mask_logits.requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        loss = cls()(half, batch)
        figures = per_image(half, batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    grad = half.image.grad if half.image.grad is not None else half.mask_logits.grad
    assert grad.isfinite().all()
    assert grad.abs().sum() > 0
    assert all(values.dtype == torch.float32 for values in figures.values())


@pytest.mark.parametrize("cls", LOSSES)
def test_double_precision_stays_double(cls, batch, restored):
    double = Restoration(restored.image.double(), restored.mask_logits.double())
    assert cls()(double, batch).dtype == torch.float64
