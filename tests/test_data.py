"""Samples are a pure function of (seed, epoch, index); photos are read as people see them."""

import random
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from clearmark.data import (
    FixedSampler,
    MarkedPhotos,
    Photos,
    PhotosModule,
    Resized,
    as_tensors,
)
from clearmark.data.photos import list_photos, padded, read_photo, split_of
from clearmark.errors import UserError
from clearmark.formation import blend_linear
from clearmark.watermarks import Logo, MarkAssets, Text, Tiled

NAMES = [f"photo{number:02}.png" for number in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of noise in nested folders."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        path = root / ("a/b" if number % 2 else "c") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), generator.integers(0, 256, (80 + number, 90, 3), np.uint8))
    return root


def module(folder, **more):
    settings = {
        "watermark": A.OneOf([Text(), Logo(), Tiled(Text(size=(0.2, 0.4)))], p=1),
        "augment": [A.HorizontalFlip(p=0.5)],
        "size": 64,
        "crop": 32,
        "samples_per_epoch": 13,
        "val_samples": 6,
        "test_samples": 6,
        "batch_size": 3,
        "eval_batch_size": 4,
    }
    made = PhotosModule(root=str(folder), **settings | more)
    made.setup("fit")
    made.setup("test")
    return made


def epochs(data, count=2):
    """The batches of some epochs, as Lightning asks for them."""
    loader = data.train_dataloader()
    every = []
    for epoch in range(count):
        loader.batch_sampler.set_epoch(epoch)
        every.append(list(loader))
    return every


def same(one, other):
    return all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key])) for key in one)


@pytest.fixture(scope="module")
def reference(folder):
    return epochs(module(folder))


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_batches_do_not_depend_on_the_number_of_workers(workers, folder, reference):
    found = epochs(module(folder, workers=workers))
    for ours, theirs in zip(found, reference, strict=True):
        assert len(ours) == 13 // 3
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_batches_do_not_depend_on_the_global_generators(folder, reference):
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert same(epochs(module(folder), 1)[0][1], reference[0][1])


def test_samples_do_not_depend_on_the_order_of_asking(folder):
    keys = [(epoch, index) for epoch in range(2) for index in range(7)]
    dataset = module(folder).datasets["train"]
    first = {key: dataset[key] for key in keys}
    shuffled = random.Random(0).sample(keys, len(keys))
    assert all(same(dataset[key], first[key]) for key in shuffled)
    fresh = module(folder).datasets["train"]
    assert all(same(fresh[key], first[key]) for key in reversed(keys))


def test_what_a_reader_does_to_a_sample_does_not_reach_the_next(folder):
    for split in ("train", "val"):
        dataset = module(folder).datasets[split]
        kept = {key: value.copy() for key, value in dataset[(0, 0)].items()}
        spoilt = dataset[(0, 0)]
        spoilt.pop("opacity")
        assert same(kept, dataset[(0, 0)])


def test_samples_of_an_epoch_differ_and_so_do_epochs_and_seeds(folder):
    dataset = module(folder).datasets["train"]
    other = module(folder, seed=1).datasets["train"]
    samples = [dataset[key]["clean"].tobytes() for key in [(0, i) for i in range(6)] + [(1, 0)]]
    samples.append(other[(0, 0)]["clean"].tobytes())
    assert len(set(samples)) == len(samples)


def test_validation_and_test_do_not_depend_on_the_seed_of_the_run(folder):
    one, two = module(folder, seed=0), module(folder, seed=1)
    for split, loader in (("val", "val_dataloader"), ("test", "test_dataloader")):
        batches = [list(getattr(data, loader)()) for data in (one, two)]
        assert sum(len(b["marked"]) for b in batches[0]) == 6
        assert all(same(a, b) for a, b in zip(*batches, strict=True))
        moved = module(folder, eval_seed=1).datasets[split]
        assert not same(moved[(0, 0)], one.datasets[split][(0, 0)])


def test_the_same_samples_in_every_epoch_on_request(folder, reference):
    first, second = epochs(module(folder, fresh_each_epoch=False))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert all(same(a, b) for a, b in zip(first, reference[0], strict=True))
    assert not same(reference[0][0], reference[1][0])


@pytest.mark.parametrize(("length", "world"), [(10, 1), (10, 3), (3, 4), (64, 8)])
def test_ranks_share_the_indices_out(length, world):
    samplers = [FixedSampler(length, rank, world) for rank in range(world)]
    drawn = [list(sampler) for sampler in samplers]
    assert [len(part) for part in drawn] == [len(sampler) for sampler in samplers]
    assert sorted(key for part in drawn for key in part) == [(0, i) for i in range(length)]


def test_a_sample_is_the_formation_model(folder):
    data = module(folder, unmarked=0.3)
    unmarked = 0
    for index in range(30):
        sample = data.datasets["train"][(0, index)]
        assert {k: v.shape for k, v in sample.items()} == {
            "marked": (32, 32, 3),
            "clean": (32, 32, 3),
            "colour": (32, 32, 3),
            "opacity": (32, 32),
        }
        assert all(v.dtype == np.uint8 for v in sample.values())
        opacity = sample["opacity"][..., None] / 255
        formed = sample["clean"] * (1 - opacity) + sample["colour"] * opacity
        assert np.abs(formed - sample["marked"]).max() <= 0.51
        unmarked += not opacity.any()
    assert 2 <= unmarked <= 20


def test_a_share_of_the_samples_is_blended_in_linear_light(folder):
    plain, half, linear = (module(folder, linear=p).datasets["train"] for p in (0.0, 0.5, 1.0))
    of_light = 0
    for index in range(20):
        sample = linear[0, index]
        layers = (sample["clean"] / 255, sample["opacity"][..., None] / 255, sample["colour"] / 255)
        assert np.abs(255 * blend_linear(*layers) - sample["marked"]).max() <= 0.6
        if (sample["marked"] != plain[0, index]["marked"]).any():
            of_light += bool((sample["marked"] == half[0, index]["marked"]).all())
    assert 4 <= of_light <= 16


def test_validation_pictures_are_whole_and_all_bear_marks(folder):
    dataset = module(folder, unmarked=1.0).datasets["val"]
    for index in range(6):
        assert dataset[(0, index)]["marked"].shape == (64, 64, 3)
        assert dataset[(0, index)]["opacity"].any()


def test_crops_look_at_the_mark(folder):
    never, always = (module(folder, on_mark=p, unmarked=0.0, size=78) for p in (0.0, 1.0))
    seen = [
        [bool(data.datasets["train"][(0, i)]["opacity"].any()) for i in range(30)]
        for data in (never, always)
    ]
    assert all(seen[1])
    assert not all(seen[0])


def test_batches_as_tensors(folder, reference):
    batch = as_tensors(reference[0][0], torch.float32)
    shapes = {key: tuple(value.shape) for key, value in batch.items()}
    assert shapes == {
        **dict.fromkeys(("marked", "clean", "colour"), (3, 3, 32, 32)),
        **dict.fromkeys(("opacity", "mask"), (3, 1, 32, 32)),
    }
    assert all(value.dtype == torch.float32 for value in batch.values())
    assert all(0 <= value.min() <= value.max() <= 1 for value in batch.values())
    np.testing.assert_array_equal(
        (batch["clean"] * 255).round().byte().permute(0, 2, 3, 1), reference[0][0]["clean"]
    )
    np.testing.assert_array_equal(batch["mask"][:, 0].bool(), reference[0][0]["opacity"] > 1)
    assert as_tensors(reference[0][0], torch.float64)["mask"].dtype == torch.float64


def test_splits_share_no_photo_and_no_mark(folder):
    data = module(folder)
    paths = {split: set(data.datasets[split].photos.paths) for split in ("train", "val", "test")}
    assert sum(map(len, paths.values())) == len(NAMES) == len(set.union(*paths.values()))
    assets = {split: MarkAssets.load(split) for split in ("train", "val", "test")}
    for kind in ("fonts", "phrases"):
        found = [getattr(a, kind) for a in assets.values()]
        assert len(set().union(*found)) == sum(map(len, found))
    icons = [icon.tobytes() for a in assets.values() for icon in a.icons]
    assert len(set(icons)) == len(icons)
    for split, dataset in data.datasets.items():
        assert dataset.assets.phrases == assets[split].phrases


def test_fewer_photos_are_among_more_and_the_seed_draws_them(folder):
    def drawn(count, **more):
        return {
            path.name for path in module(folder, train_photos=count, **more).photos("train").paths
        }

    every = drawn(None)
    assert [len(drawn(count)) for count in (1, 2, len(every))] == [1, 2, len(every)]
    assert drawn(1) < drawn(2) < every
    assert len({min(drawn(1, seed=seed)) for seed in range(20)}) > 1
    few, all_ = module(folder, train_photos=1), module(folder)
    assert few.photos("val").paths == all_.photos("val").paths
    for count in (0, len(every) + 1):
        with pytest.raises(
            UserError, match=rf"data.train_photos={count}: .* has {len(every)} photos"
        ):
            drawn(count)


def test_a_folder_is_split_by_name_alone():
    expected = {
        "photo.jpg": "train",
        "IMG_0001.jpg": "test",
        "IMG_0002.jpg": "train",
        "f.png": "test",
    }
    assert {name: split_of(Path("any/where") / name) for name in expected} == expected
    found = [split_of(Path(f"DSC{number}.jpg")) for number in range(5000)]
    for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert found.count(split) / 5000 == pytest.approx(share, abs=0.02)


def test_a_folder_of_folders_is_split_by_these(tmp_path):
    """However its files are called, and wherever they lie below; what is beside is in no split."""
    for place in ("train/a", "train/b/a", "val/a", "a"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        tiny.photos(tmp_path / place, 2)
    data = PhotosModule(Text(), str(tmp_path), size=32, crop=32)
    for split, count in (("train", 4), ("val", 2)):
        places = [path.relative_to(tmp_path).parts[0] for path in data.photos(split).paths]
        assert places == [split] * count
    with pytest.raises(UserError, match=r"none of its 8 photos falls into 'test' \(by its folders"):
        data.photos("test")


def test_a_missing_or_empty_folder_is_refused(tmp_path):
    for root in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=r"data\.root="):
            module(root)
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(UserError, match="holds no pictures"):
        module(tmp_path)
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((80, 80, 3), np.uint8))
    with pytest.raises(UserError, match=r"falls into '.*add more photos"):
        module(tmp_path)


def test_broken_files_are_left_out_with_the_reason(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "whole.jpg"), noise)
    cv2.imwrite(str(tmp_path / "whole.png"), noise)
    for name in ("whole.jpg", "whole.png"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
    content = bytearray((tmp_path / "whole.png").read_bytes())
    content[20:400] = bytes(380)  # head and end are right, what lies between is not
    (tmp_path / "inside.png").write_bytes(content)
    (tmp_path / "nothing.jpg").touch()
    (tmp_path / "words.png").write_text("this is no picture\n" * 20)
    (tmp_path / ".hidden.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes())
    (tmp_path / "folder.jpg").mkdir()

    listed = list_photos(tmp_path)
    assert not {".hidden.jpg", "folder.jpg"} & {path.name for path in listed}
    photos = Photos(listed, 512, 32)
    assert [path.name for path in photos.paths] == ["whole.jpg", "whole.png"]
    reasons = {path.name: why for path, why in photos.broken.items()}
    assert reasons == {
        "cut_whole.jpg": "truncated",
        "cut_whole.png": "truncated",
        "nothing.jpg": "empty file",
        "words.png": "not a picture",
        "inside.png": "cannot be decoded",
    }
    np.testing.assert_array_equal(photos[1], noise[..., ::-1])


def test_a_folder_below_home_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert (
        module(Path("~") / folder.name).photos("train").paths
        == module(folder).photos("train").paths
    )


def test_hidden_folders_are_left_out(tmp_path):
    for name in (".cache/thumbnail.png", "seen/photo.png"):
        path = tmp_path / name
        path.parent.mkdir()
        cv2.imwrite(str(path), np.zeros((9, 9, 3), np.uint8))
    assert [path.name for path in list_photos(tmp_path)] == ["photo.png"]


def test_a_folder_of_broken_photos_alone_is_refused(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.jpg").touch()
    with pytest.raises(UserError, match="photos of the split 'train' are broken"):
        module(tmp_path)


@pytest.mark.parametrize("broken_at", [0, 1])
def test_a_photo_that_breaks_while_training_is_skipped_with_a_warning(tmp_path, broken_at):
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((40, 40, 3), 50 + number, np.uint8))
    photos = Photos(list_photos(tmp_path), 512, 32, cache_mb=0)
    (tmp_path / f"{broken_at}.png").write_bytes(b"\x89PNG")
    with pytest.warns(UserWarning, match=f"cannot be decoded: .*{broken_at}.png"):
        assert (photos[broken_at] == 50 + 1 - broken_at).all()


def test_the_cache_changes_nothing(folder):
    paths = list_photos(folder)
    kept, part, none = (Photos(paths, 64, 64, megabytes) for megabytes in (100, 1, 0))
    for index in range(len(paths)):
        np.testing.assert_array_equal(kept[index], none[index])
        np.testing.assert_array_equal(kept[index], part[index])


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (7, 5), (40, 20), (64, 64), (100, 9)])
def test_small_photos_are_padded_by_reflection(shape):
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    made = padded(photo, 64)
    assert made.shape[:2] == tuple(max(64, side) for side in shape)
    gaps = [max(0, 64 - side) for side in shape]
    sides = [(gap // 2, gap - gap // 2) for gap in gaps]
    np.testing.assert_array_equal(made, np.pad(photo, [*sides, (0, 0)], mode="symmetric"))


def test_large_photos_are_reduced_to_the_short_side(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((300, 451, 3), np.uint8))
    assert read_photo(tmp_path / "a.png", 100).shape == (100, 150, 3)
    assert read_photo(tmp_path / "a.png", 400).shape == (300, 451, 3)


QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30], QUARTERS[:20, 30:] = (250, 20, 30), (20, 200, 40)
QUARTERS[20:, :30], QUARTERS[20:, 30:] = (30, 40, 220), (240, 240, 230)


def corners(image):
    height, width = image.shape[:2]
    rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    return image[np.ix_(rows, columns)].astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(orientation, tmp_path):
    transposed = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(QUARTERS)
    if orientation > 1:
        image = image.transpose(transposed[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = read_photo(tmp_path / "a.jpg")
    assert found.shape == QUARTERS.shape
    np.testing.assert_allclose(corners(found), corners(QUARTERS), atol=8)


def test_all_kinds_of_pixels_are_read_as_rgb(tmp_path):
    deep = QUARTERS.astype(np.uint16)[..., ::-1] * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    cv2.imwrite(str(tmp_path / "deep.tif"), deep)
    alpha = np.dstack([QUARTERS, np.full((40, 60), 128, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(QUARTERS).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(QUARTERS).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(QUARTERS).save(tmp_path / "a.webp", lossless=True)
    Image.fromarray(QUARTERS).save(tmp_path / "a.bmp")
    for path in list_photos(tmp_path):
        found = read_photo(path)
        assert found.dtype == np.uint8
        assert found.shape == QUARTERS.shape, path.name
        np.testing.assert_allclose(corners(found), corners(QUARTERS), atol=12, err_msg=path.name)


def test_grey_photos_are_read_as_rgb(tmp_path):
    grey = QUARTERS[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    for path in list_photos(tmp_path):
        np.testing.assert_array_equal(read_photo(path), np.dstack([grey] * 3))


def test_a_crop_larger_than_the_picture_is_refused():
    with pytest.raises(UserError, match=r"data\.crop=128 exceeds data\.size=64"):
        PhotosModule(Text(), size=64, crop=128)


def test_a_dataset_needs_no_module(folder):
    dataset = MarkedPhotos(
        Photos(list_photos(folder), 64, 64),
        MarkAssets.load("train"),
        geometry=A.RandomCrop(48, 48),
        watermark=Text(),
        seed=3,
    )
    assert dataset[(0, 4)]["marked"].shape == (48, 48, 3)


def test_a_mask_where_the_mark_changes_the_picture(folder):
    plain = module(folder).datasets["test"]
    ruled = module(folder, mask_above=15)
    blur = module(folder, mask_above=15, degradation=A.GaussianBlur(p=1)).datasets["test"]
    narrower = 0
    for index in range(6):
        made = ruled.datasets["test"][0, index]
        mask = made.pop("mask")
        assert same(made, plain[0, index])
        change = np.abs(made["marked"].astype(int) - made["clean"]).sum(axis=2)
        np.testing.assert_array_equal(mask, (change > 15) * 255)
        narrower += (mask > 0).sum() < (made["opacity"] > 1).sum()
        np.testing.assert_array_equal(mask, blur[0, index]["mask"])  # what follows is no mark
    assert narrower > 3
    batch = as_tensors(next(iter(ruled.test_dataloader())), torch.float32)
    assert batch["mask"].shape == (4, 1, 64, 64)
    assert batch["mask"].unique().tolist() == [0, 1]
    resized = Resized(ruled.datasets["test"], 100)[0, 0]["mask"]
    assert set(np.unique(resized)) == {0, 255}
