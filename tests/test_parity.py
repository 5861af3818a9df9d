"""How far an export may be from PyTorch, and that nothing is left of what is too far."""

import math

import numpy as np
import pytest
import torch
from test_released import content

import export
from clearmark import cli, released, runs
from clearmark.errors import UserError
from clearmark.export import FORMATS, onnx_int8, parity, safetensors
from clearmark.export.graph import SINGLE, Limits, Restored

PIXELS = np.random.default_rng(0).integers(0, 200, (2, 8, 9, 3), np.uint8)
SAMPLES = [{"marked": pixels, "opacity": pixels[..., 0]} for pixels in PIXELS]


def shift(image, mask=None, only=lambda marked: True):
    """A network that adds to the brightest value of the pictures that it is for."""

    def restore(marked):
        added = image * (marked == marked.max()) * only(marked)
        return Restored(marked + added, None if mask is None else marked[:, :1] * 0 + mask)

    return restore


def single(marked):
    return len(marked) == 1


def pair(marked):
    return marked.shape == (2, 3, 250, 270)


def test_the_difference_is_the_largest_of_all():
    found = parity.compare(shift(0), shift(0.1), SAMPLES)
    assert found.largest == pytest.approx(0.1)
    assert found.mask is None
    assert parity.compare(shift(0), shift(0), SAMPLES)[:3] == (0, 0, np.inf)
    clamped = parity.compare(shift(0.1), shift(9), SAMPLES)
    darkest = min(marked.max() for pixels in PIXELS for marked in both(pixels)) / 255
    assert clamped.largest == pytest.approx(0.9 - darkest)


def both(pixels):
    marked = torch.from_numpy(pixels.transpose(2, 0, 1)[None] / np.float32(255))
    yield 255 * marked
    yield 255 * parity._pair(marked)


def test_mean_and_psnr_are_of_every_picture():
    found = parity.compare(shift(0), shift(0.1, only=single), SAMPLES)
    peaks = [(pixels == pixels.max()).mean() for pixels in PIXELS] + [0, 0]  # of the pairs none
    assert found.mean == pytest.approx(0.1 * np.mean(peaks))
    assert found.psnr == pytest.approx(-10 * np.log10(0.1**2 * np.mean(peaks)))


@pytest.mark.parametrize("only", [single, pair])
def test_one_picture_and_a_pair_in_an_odd_size(only):
    found = parity.compare(shift(0), shift(0.1, only=only), SAMPLES)
    assert found.largest == pytest.approx(0.1)


def test_masks_are_compared():
    assert parity.compare(shift(0, 0.5), shift(0, 0.7), SAMPLES).mask == pytest.approx(0.2)
    assert parity.compare(shift(0, 0.5), shift(0), SAMPLES).mask == np.inf


@pytest.mark.parametrize(
    ("image", "mask", "psnr", "limits"),
    [
        (2e-4, 0.0, 90.0, SINGLE),
        (0.0, 2e-4, np.inf, SINGLE),
        (np.nan, 0.0, np.nan, SINGLE),
        (np.nan, None, np.nan, Limits()),
        (0.0, np.nan, np.inf, SINGLE),
        (0.1, 0.9, 25.0, Limits(psnr=30)),
    ],
)
def test_what_is_too_far_is_refused(image, mask, psnr, limits, tmp_path):
    far = parity.Parity(image, image, psnr, mask, (1, 1))
    with pytest.raises(UserError, match="format=onnx restores other pictures") as caught:
        parity.check(far, limits, "onnx", tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)


def test_what_is_near_is_not():
    parity.check(parity.Parity(1e-4, 0, 90.0, 9e-5, (1, 1)), SINGLE, "onnx", None)
    parity.check(parity.Parity(0.1, 0, 31.0, 0.9, (1, 1)), Limits(psnr=30), "onnx", None)


def test_one_pixel_that_is_no_number_is_seen():
    found = parity.compare(shift(0), shift(math.nan), SAMPLES)
    assert math.isnan(found.largest)


def test_limits_of_the_formats():
    kept = {name: kind.LIMITS for name, kind in FORMATS.items()}
    assert kept.pop("safetensors") == safetensors.LIMITS == Limits(largest=0.1, psnr=50)
    assert kept.pop("onnx_int8") == onnx_int8.LIMITS == Limits(psnr=30)
    assert set(kept.values()) == {Limits(largest=1e-4)}


def command(composed, ckpt, name, output, *more):
    typed = cli.quote_paths([f"ckpt={ckpt}", f"output={output}"], export.PATHS)
    small = ("samples=1", "data.size=64", "threads=1")
    return composed("export", f"format={name}", *typed, *small, *more)


class File:
    """A format that writes a file in no time, and then adds so much to each restored value."""

    LIMITS = SINGLE

    def __init__(self, by):
        self.by = by

    def check(self, output):
        pass

    def write(self, output, network, config, ckpt):
        output.write_text(f"{self.by}")
        self.network = network

    def load(self, output, threads):
        assert output.read_text() == f"{self.by}"
        return lambda marked: Restored(self.network(marked)[0].clamp(0, 1) + self.by)


class Folder(File):
    """The same as a folder."""

    def write(self, output, *more):
        output.mkdir()
        super().write(output / "file", *more)

    def load(self, output, threads):
        return super().load(output / "file", threads)


@pytest.mark.parametrize("kind", [File, Folder])
def test_nothing_is_left_of_what_is_too_far(
    kind, composed, run_folder, tmp_path, monkeypatch, capsys
):
    network, config = runs.load_network(run_folder)
    maskless = lambda marked: Restored(network(marked).image)  # noqa: E731
    monkeypatch.setattr(runs, "load_network", lambda ckpt: (maskless, config))
    main = cli.entry(export.export)
    for by in (0, 1e-5):
        monkeypatch.setitem(FORMATS, "torch", kind(by))
        main(command(composed, run_folder, "torch", tmp_path / "net", "overwrite=true"))
    files = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    monkeypatch.setitem(FORMATS, "torch", kind(-1e-3))
    for name in ("new", "net"):
        with pytest.raises(SystemExit, match="2"):
            main(command(composed, run_folder, "torch", tmp_path / name, "overwrite=true"))
        said = capsys.readouterr()
        assert said.err == (
            "error: format=torch restores other pictures than PyTorch: a restored value differs by "
            f"0.001 (limit 0.0001); output={tmp_path / name} was not written; take another format\n"
        )
        assert said.out == ""
    assert sorted(tmp_path.rglob("*")) == files
    assert (files[-1]).read_text() == "1e-05"


def test_a_folder_is_not_replaced_by_a_file(composed, tmp_path):
    output = tmp_path / "theses.pt2"
    output.mkdir()
    with pytest.raises(UserError, match="is a folder, and format=torch a file"):
        export.export(command(composed, "unet", "torch", output, "overwrite=true"))
    assert output.is_dir()


def test_a_released_model_comes_out_as_it_is(composed, tmp_path):
    export.export(command(composed, "unet", "safetensors", tmp_path / "mine"))
    assert content(tmp_path / "mine") == content(released.EMBEDDED / "unet")
