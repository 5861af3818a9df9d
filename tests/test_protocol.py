"""The figures of the paper protocol against an independent computation on the files themselves."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
from sets import CLWD, maps, write
from skimage.metrics import structural_similarity

import evaluate
from clearmark import runs
from clearmark.errors import UserError
from clearmark.metrics import PROTOCOLS, per_image
from clearmark.models.base import Restoration

PICTURES = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A test set in CLWD's layout that is not 256x256, and whose masks have a soft edge."""
    root = tmp_path_factory.mktemp("clwd")
    for number in range(PICTURES):
        made = maps(number, 300)
        shape = slice(0, 300 - 20 * (number % 2)), slice(0, 290)
        for key, folder in CLWD.items():
            write(root / "test" / folder / f"{number}.png", made[key][shape])
        soft = cv2.GaussianBlur(made["mask"], (0, 0), 2)
        write(root / "test" / "Mask" / f"{number}.png", soft[shape])
    return root


@pytest.fixture
def measured(composed, run_folder, root, tmp_path):
    def measured(*more):
        given = [f"ckpt='{run_folder}'", f"folder={tmp_path / 'out'}", f"data.root='{root}'"]
        fixed = ["data=clwd", "trainer=cpu", "~callbacks.progress", "~callbacks.panels"]
        return evaluate.evaluate(composed("evaluate", *given, *fixed, *more))

    return measured


def ssim_on_black(one, other):
    """scikit-image's map of two pictures that lie on black, without that black."""
    pad = [(20, 20), (20, 20), (0, 0)]
    return structural_similarity(
        np.pad(one, pad),
        np.pad(other, pad),
        data_range=1,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )[1][20:-20, 20:-20].mean()


def by_hand(root, network):
    """Mean figures, with nothing of this project but the network."""
    rows = []
    for number in range(PICTURES):
        read = {
            key: cv2.imread(str(root / "test" / folder / f"{number}.png"))[..., ::-1]
            for key, folder in (CLWD | {"mask": "Mask"}).items()
        }
        mask = read.pop("mask")[..., 0] / 255 > 0.1
        mask = cv2.resize(mask.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) > 0
        marked, clean = (cv2.resize(read[key], (256, 256)) / 255 for key in ("marked", "clean"))
        batch = torch.from_numpy(marked.transpose(2, 0, 1)[None]).float()
        with torch.no_grad():
            restored = network(batch)
        image = restored.image[0].double().numpy().transpose(1, 2, 0).clip(0, 1)
        found = restored.mask[0, 0].numpy() > 0.5
        row = {}
        for suffix, picture in (("", image), ("_input", marked)):
            error = (picture - clean) ** 2
            row[f"psnr{suffix}"] = 10 * math.log10(1 / error.mean())
            row[f"rmse{suffix}"] = 256 * math.sqrt(error.mean())
            row[f"rmsew{suffix}"] = 256 * math.sqrt(error[mask].sum() / (3 * mask.sum()))
            row[f"ssim{suffix}"] = ssim_on_black(picture, clean)
        hit = (found & mask).sum()
        row["mask_f1"] = 2 * hit / (found.sum() + mask.sum())
        row["mask_iou"] = hit / (found | mask).sum()
        rows.append(row)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def test_the_paper_protocol_is_what_published_code_computes(
    measured, root, run_folder, tmp_path, capsys
):
    figures = measured("protocol=paper")
    expected = by_hand(root, runs.load_network(run_folder)[0])
    assert 5 < expected["psnr"] < 40
    for name, value in expected.items():
        near = pytest.approx(value, rel=1e-3) if "mask" in name else pytest.approx(value, rel=2e-5)
        assert figures[f"test/{name}"] == near, name
    assert figures["protocol"] == "paper"
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == figures
    said = capsys.readouterr().out
    assert "paper protocol" in " ".join(said.split())
    assert "RMSE (of 256)" in said
    assert "of 255" not in said


def test_the_native_protocol_leaves_pictures_as_they_are(measured, capsys):
    native, paper = measured(), measured("protocol=paper")
    assert native.keys() == paper.keys()
    assert native["protocol"] == "native"
    assert native["test/psnr_input"] != paper["test/psnr_input"], "nothing was resized"
    assert native == measured("protocol=native")
    assert "RMSE (of 255)" in capsys.readouterr().out


def test_what_differs_on_the_same_pixels():
    generator = torch.Generator().manual_seed(0)
    batch = {
        "clean": torch.rand(3, 3, 40, 30, generator=generator),
        "marked": torch.rand(3, 3, 40, 30, generator=generator),
        "mask": torch.ones(3, 1, 40, 30),
    }
    restored = Restoration(0.5 * (batch["clean"] + batch["marked"]), torch.zeros(3, 1, 40, 30))
    native = per_image(restored, batch)
    paper = per_image(restored, batch, PROTOCOLS["paper"])
    for name, values in native.items():
        factor = 256 / 255 if "rmse" in name else 1
        if "ssim" in name:
            assert not torch.allclose(paper[name], values, atol=1e-4)
            assert torch.allclose(paper[name], values, atol=0.15)
        else:
            torch.testing.assert_close(paper[name], factor * values)
    perfect = Restoration(batch["clean"])
    assert per_image(perfect, batch, PROTOCOLS["paper"])["psnr"].tolist() == [100] * 3
    assert per_image(perfect, batch)["psnr"].tolist() == pytest.approx([58.92] * 3, abs=0.01)


def test_a_protocol_that_does_not_exist(measured):
    with pytest.raises(UserError, match="protocol=papers does not exist; use native or paper"):
        measured("protocol=papers")
