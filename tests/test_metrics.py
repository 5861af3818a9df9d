import math

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from clearmark.metrics import NAMES, ON_MARK, PSNR_CEILING, RemovalMetrics, per_image
from clearmark.models.base import Restoration


def make_batch(n, seed, masked=True):
    """n images of falling quality; every third one bears no mark."""
    g = torch.Generator().manual_seed(seed)
    clean = torch.rand(n, 3, 24, 20, generator=g)
    mask = (torch.rand(n, 1, 24, 20, generator=g) > 0.7).float()
    mask[::3] = 0
    marked = clean + mask * (0.6 * 0.9 - 0.6 * clean)
    noise = torch.randn(clean.shape, generator=g)
    spread = torch.linspace(0.01, 0.5, n).view(n, 1, 1, 1)
    logits = torch.randn(n, 1, 24, 20, generator=g) + mask if masked else None
    batch = {"clean": clean, "marked": marked, "mask": mask}
    return Restoration(clean + spread * noise, logits), batch


def hwc(x):
    return x.permute(1, 2, 0).numpy().astype(np.float64)


@pytest.mark.parametrize("suffix", ["", "_input"])
def test_psnr_and_ssim_match_scikit_image(suffix):
    restored, batch = make_batch(5, 0)
    figures = per_image(restored, batch)
    images = restored.image.clamp(0, 1) if not suffix else batch["marked"]
    for i, (image, clean) in enumerate(zip(images, batch["clean"], strict=True)):
        if torch.equal(image, clean):  # an unmarked input
            assert figures["psnr" + suffix][i] == pytest.approx(PSNR_CEILING, abs=1e-4)
            assert figures["ssim" + suffix][i] == pytest.approx(1, abs=1e-6)
            continue
        image, clean = hwc(image), hwc(clean)
        expected = peak_signal_noise_ratio(clean, image, data_range=1)
        assert figures["psnr" + suffix][i] == pytest.approx(expected, abs=1e-4)
        # scikit-image leaves a border of 5 out of its mean; ours is reflected and counts.
        pad = [(5, 5), (5, 5), (0, 0)]
        expected = structural_similarity(
            np.pad(clean, pad, mode="reflect"),
            np.pad(image, pad, mode="reflect"),
            data_range=1,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert figures["ssim" + suffix][i] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("suffix", ["", "_input"])
def test_rmse_and_masked_figures_match_numpy(suffix):
    restored, batch = make_batch(5, 1)
    figures = per_image(restored, batch)
    images = (restored.image.clamp(0, 1) if not suffix else batch["marked"]).double().numpy()
    for i, (image, clean, mask) in enumerate(
        zip(images, batch["clean"].double().numpy(), batch["mask"][:, 0].numpy() > 0, strict=True)
    ):
        error = (image - clean) ** 2
        assert figures["rmse" + suffix][i] == pytest.approx(255 * error.mean() ** 0.5, rel=1e-4)
        inside = error[:, mask]
        if inside.size == 0:
            assert figures["rmsew" + suffix][i].isnan()
            assert figures["psnr_mask" + suffix][i].isnan()
            continue
        assert figures["rmsew" + suffix][i] == pytest.approx(255 * inside.mean() ** 0.5, rel=1e-4)
        decibel = -10 * math.log10(inside.mean())
        assert figures["psnr_mask" + suffix][i] == pytest.approx(decibel, abs=1e-4)


def test_rmsew_by_hand():
    clean = torch.full((1, 3, 8, 8), 0.5)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :2, :2] = 1
    image = clean.clone()
    image[:, 0, :2, :2] += 0.3  # one of three channels of each marked pixel
    image[..., 5:, 5:] = 0  # harm elsewhere is not of the mark
    figures = per_image(Restoration(image), {"clean": clean, "marked": clean, "mask": mask})
    assert figures["rmsew"].item() == pytest.approx(255 * math.sqrt(0.3**2 / 3), rel=1e-5)
    assert figures["rmsew_input"].item() == 0
    assert figures["psnr_mask_input"].item() == pytest.approx(PSNR_CEILING, abs=1e-4)


def test_mask_f1_and_iou_by_hand():
    mask = torch.zeros(3, 1, 8, 8)
    mask[0, :, :2] = 1  # 16 pixels, 8 of them found, 8 false alarms
    mask[1, :, :2] = 1  # found exactly; the third has none, and false alarms
    found = torch.zeros_like(mask)
    found[0, :, 1:3] = 1
    found[1:, :, :2] = 1
    clean = torch.rand(3, 3, 8, 8)
    restored = Restoration(clean, 10 * (found - 0.5))
    batch = {"clean": clean, "marked": clean, "mask": mask}
    figures = per_image(restored, batch)
    assert figures["mask_f1"].tolist() == pytest.approx([0.5, 1, math.nan], nan_ok=True)
    assert figures["mask_iou"].tolist() == pytest.approx([8 / 24, 1, math.nan], nan_ok=True)
    metrics = RemovalMetrics()
    metrics.update(restored, batch)
    assert metrics.compute()["mask_iou"] == pytest.approx((8 / 24 + 1) / 2)


def test_means_are_over_images_however_they_are_batched():
    restored, batch = make_batch(7, 2)
    metrics = RemovalMetrics()
    for part in (slice(0, 1), slice(1, 5), slice(5, 7)):
        metrics.update(
            Restoration(restored.image[part], restored.mask_logits[part]),
            {key: x[part] for key, x in batch.items()},
        )
    result, expected = metrics.compute(), per_image(restored, batch)
    assert result.keys() == expected.keys()
    for name, values in expected.items():
        assert values.isnan().sum() == (3 if name in ON_MARK else 0), name
        assert result[name] == pytest.approx(values.nanmean().item(), rel=1e-5), name


def test_psnr_is_not_that_of_the_pooled_error():
    restored, batch = make_batch(6, 3)
    metrics = RemovalMetrics()
    metrics.update(restored, batch)
    pooled = -10 * (restored.image.clamp(0, 1) - batch["clean"]).square().mean().log10()
    assert metrics.compute()["psnr"] > pooled + 1


def test_doing_nothing_gains_nothing_and_perfection_is_finite():
    _, batch = make_batch(4, 4)
    nothing, perfect = RemovalMetrics(), RemovalMetrics()
    nothing.update(Restoration(batch["marked"]), batch)
    perfect.update(Restoration(batch["clean"]), batch)
    idle, best = nothing.compute(), perfect.compute()
    assert idle["psnr_gain"] == 0
    for name in ("psnr", "ssim", "rmse", "rmsew", "psnr_mask"):
        assert idle[name] == idle[f"{name}_input"]
    assert best["psnr"] == pytest.approx(58.92, abs=0.01)
    assert best["psnr_mask"] == pytest.approx(58.92, abs=0.01)
    assert best["psnr_gain"] == best["psnr"] - best["psnr_input"]
    assert best["rmse"] == 0


def test_predictions_are_clamped_and_nan_is_not_hidden():
    _, batch = make_batch(4, 5)
    batch["clean"] = batch["clean"].round()
    far = torch.where(batch["clean"] > 0.5, 7.0, -7.0)
    assert (per_image(Restoration(far), batch)["rmse"] == 0).all()
    metrics = RemovalMetrics()
    metrics.update(Restoration(far), batch)
    metrics.update(Restoration(far * math.nan), batch)
    result = metrics.compute()
    assert all(result[name].isnan() for name in ("psnr", "ssim", "rmse", "rmsew", "psnr_mask"))
    assert result["psnr_input"].isfinite()


def test_what_was_not_fed_is_left_out():
    restored, batch = make_batch(4, 6, masked=False)
    metrics = RemovalMetrics()
    metrics.update(restored, batch)
    assert set(NAMES) - metrics.compute().keys() == {"mask_f1", "mask_iou", "clean_psnr"}

    metrics.update_clean(Restoration(batch["clean"] + 0.1), batch["clean"] * 0)
    metrics.update_clean(Restoration(batch["clean"]), batch["clean"])
    assert set(NAMES) - metrics.compute().keys() == {"mask_f1", "mask_iou"}

    metrics.reset()
    unmarked = batch | {"mask": torch.zeros_like(batch["mask"])}
    metrics.update(restored, unmarked)
    assert metrics.compute().keys() == set(NAMES) - ON_MARK - {"clean_psnr"}


def test_clean_psnr():
    clean = torch.full((2, 3, 8, 8), 0.5)
    image = clean.clone()
    image[0] += 0.1
    metrics = RemovalMetrics()
    _, batch = make_batch(2, 7)
    metrics.update(Restoration(batch["marked"]), batch)
    metrics.compute()  # must not hide what is fed after it
    metrics.update_clean(Restoration(image), clean)
    assert metrics.compute()["clean_psnr"] == pytest.approx((20 + PSNR_CEILING) / 2, abs=1e-4)


def test_states_made_under_inference_mode_can_be_added_to_outside_it():
    restored, batch = make_batch(2, 8)
    metrics = RemovalMetrics()
    with torch.inference_mode():
        metrics.update(restored, batch)
        first = metrics.compute()
        metrics.reset()
    metrics.update(restored, batch)
    assert metrics.compute()["psnr"] == first["psnr"]


def feed_one_process(rank, store, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    metrics = RemovalMetrics()
    metrics.update(*make_batch((5, 2)[rank], rank))
    if rank == 0:  # a figure that only one process was fed
        _, batch = make_batch(2, 9)
        metrics.update_clean(Restoration(batch["marked"]), batch["clean"])
    torch.save(metrics.compute(), f"{out}{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_uneven_batches_agree_on_the_mean_over_images(tmp_path):
    mp.spawn(feed_one_process, (str(tmp_path / "store"), str(tmp_path / "out")), nprocs=2)
    alone = RemovalMetrics()
    for rank, n in enumerate((5, 2)):
        alone.update(*make_batch(n, rank))
    _, batch = make_batch(2, 9)
    alone.update_clean(Restoration(batch["marked"]), batch["clean"])
    for rank in range(2):
        result = torch.load(tmp_path / f"out{rank}", weights_only=True)
        assert result.keys() == alone.compute().keys()
        for name, mean in alone.compute().items():
            assert result[name] == pytest.approx(mean.item(), rel=1e-5), name
