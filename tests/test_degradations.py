"""What happens to a marked picture afterwards: to it alone, as asked for, and repeatable."""

import io
import random
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from clearmark.data import PhotosModule
from clearmark.degradations import JPEG, WebP, encoded
from clearmark.errors import UserError
from clearmark.watermarks import Text

CONF = sorted((Path(__file__).parents[1] / "conf/degradation").glob("*.yaml"))
every_choice = pytest.mark.parametrize("path", CONF, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(30):
        coarse = generator.integers(0, 256, (12, 12, 3), np.uint8)
        picture = cv2.resize(coarse, (80, 80), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / f"photo{number:02}.png"), picture)
    return root


def module(folder, path=None, **more):
    settings = {
        "size": 64,
        "crop": 48,
        "samples_per_epoch": 8,
        "val_samples": 4,
        "batch_size": 4,
        "degradation": path and instantiate(OmegaConf.load(path), _convert_="all"),
    }
    made = PhotosModule(Text(opacity=(0.5, 1.0)), str(folder), **settings | more)
    made.setup("fit")
    return made


def seeded(transform, seed=0):
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return transform


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_repeat_bit_for_bit_with_any_number_of_workers(workers, folder):
    path, runs = CONF[0].with_name("web.yaml"), []
    for count in (0, workers):
        loader = module(folder, path, workers=count, linear=0.5).train_dataloader()
        loader.batch_sampler.set_epoch(3)
        runs.append(list(loader))
    for one, other in zip(*runs, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


@every_choice
@pytest.mark.parametrize("split", ["train", "val"])
def test_only_the_marked_picture_changes(path, split, folder):
    plain, degraded = (module(folder, p).datasets[split] for p in (None, path))
    changed = 0
    for index in range(12):
        one, other = plain[0, index], degraded[0, index]
        for key in ("clean", "opacity", "colour"):
            np.testing.assert_array_equal(one[key], other[key])
        assert other["marked"].shape == one["marked"].shape
        assert other["marked"].dtype == np.uint8
        changed += bool((one["marked"] != other["marked"]).any())
        close = np.abs(one["marked"].astype(float) - other["marked"]).mean()
        assert close < 20  # it is still the same picture
    assert changed == 0 if path.stem == "none" else changed >= 8


def test_pictures_without_a_mark_are_degraded_too(folder):
    dataset = module(folder, CONF[0].with_name("jpeg.yaml"), unmarked=1.0).datasets["train"]
    for index in range(4):
        sample = dataset[0, index]
        assert not sample["opacity"].any()
        assert (sample["marked"] != sample["clean"]).any()


@every_choice
def test_draws_differ_from_sample_to_sample(path, folder):
    if path.stem == "none":
        pytest.skip("draws nothing")
    photo = cv2.imread(str(sorted(folder.glob("*.png"))[0]))
    transform = instantiate(OmegaConf.load(path), _convert_="all")
    made = [seeded(transform, seed)(image=photo)["image"].tobytes() for seed in (1, 1, 2, 3, 4, 5)]
    assert made[0] == made[1]
    assert len(set(made)) > 2


FACTORS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}


@pytest.mark.parametrize(("name", "factors"), FACTORS.items())
def test_the_file_says_the_subsampling_asked_for(name, factors, folder):
    photo = cv2.imread(str(sorted(folder.glob("*.png"))[0]))
    file = encoded(photo, 80, name).tobytes()
    frame = file.index(b"\xff\xc0")  # its header: 9 bytes, then an id, factors, table a component
    components = [file[frame + 10 + 3 * n : frame + 13 + 3 * n] for n in range(3)]
    assert [(c[1] >> 4, c[1] & 15) for c in components] == [factors, (1, 1), (1, 1)]


@pytest.mark.parametrize(("name", "factors"), FACTORS.items())
def test_chroma_loses_what_the_subsampling_says(name, factors):
    """Stripes one pixel wide, of two colours of the same brightness, along and across."""
    for axis, factor in zip((1, 0), factors, strict=True):
        stripes = np.zeros((64, 64, 3), np.uint8) + np.array([150, 75, 110], np.uint8)
        picked = np.arange(64) % 2 == 0
        stripes[(slice(None), picked) if axis else picked] = (60, 121, 110)
        made = seeded(JPEG((100, 100), [name]))(image=stripes)["image"].astype(float)
        red_less_green = np.diff(made[..., 0] - made[..., 1], axis=axis)
        kept = np.abs(red_less_green).mean() / 136
        assert kept > 0.8 if factor == 1 else kept < 0.2


def test_quality_stays_in_its_range_and_lower_is_worse(folder):
    photo = cv2.imread(str(sorted(folder.glob("*.png"))[0]))
    transform = JPEG((40, 60), ["4:2:0"])
    drawn = [transform.get_params()["quality"] for _ in range(300)]
    assert min(drawn) == 40
    assert max(drawn) == 60
    sizes = [len(encoded(photo, quality, "4:2:0")) for quality in (40, 60, 90)]
    assert sizes == sorted(sizes)
    tables = {}
    for quality in (40, 50, 60):
        file = encoded(photo, quality, "4:2:0").tobytes()
        start = file.index(b"\xff\xdb") + 5
        tables[quality] = np.frombuffer(file[start : start + 64], np.uint8).mean()
    assert tables[40] > tables[50] > tables[60]
    made = seeded(JPEG((50, 50), ["4:2:0"]))(image=photo)["image"]
    loaded = cv2.imdecode(encoded(photo, 50, "4:2:0"), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(made, loaded)


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (33, 64)])
@every_choice
def test_every_size_is_kept(path, shape):
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    transform = instantiate(OmegaConf.load(path), _convert_="all")
    for seed in range(5):
        assert seeded(transform, seed)(image=photo)["image"].shape == photo.shape


@pytest.mark.parametrize("transform", [JPEG((95, 95)), WebP((95, 95))])
def test_red_stays_red_and_loses_what_libjpeg_and_libwebp_say(transform):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = np.linspace(150, 220, 32, dtype=np.uint8)
    made = A.Compose([transform])(image=red)["image"]
    kind, file = type(transform).__name__, io.BytesIO()
    Image.fromarray(red).save(file, kind, quality=95)  # Pillow, which is told that this is RGB
    other = np.asarray(Image.open(file).convert("RGB")).astype(float)
    assert np.abs(made - other).mean() < 3
    assert made[..., 0].min() > 100 > made[..., 1:].max()


@pytest.mark.parametrize("quality", [(0, 50), (50, 101), (80, 60)])
def test_a_quality_that_is_no_range_is_refused(quality):
    with pytest.raises(UserError, match=r"quality=.*within \[1, 100\]"):
        JPEG(quality)
    with pytest.raises(UserError, match="quality"):
        WebP(quality)


def test_an_unknown_subsampling_is_refused():
    with pytest.raises(UserError, match=r"4:1:0.*4:4:4, 4:2:2, 4:2:0"):
        JPEG(subsampling=["4:1:0"])
