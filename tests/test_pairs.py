"""Samples of pairs: as they lie on disk, cut alike, each seen once, and trained on."""

import itertools
import json
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from sets import SETS, clwd, flat, maps, module, write

from clearmark.data import Pairs, PairsModule
from clearmark.data.layouts import Listing, Pair, read_listing
from clearmark.data.pairs import DIFFERS
from clearmark.watermarks.pixels import differs


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_read_as_it_lies(name, tmp_path):
    make, more = SETS[name]
    data = module(make(tmp_path), name)
    assert not data.broken
    wanted = {"marked", "clean", "mask"} | more
    for split in ("train", "val", "test"):
        sample = data.datasets[split][0, 0]
        extra = {"colour"} if name == "clwd" and split == "test" else set()
        assert sample.keys() == wanted - extra
        side = 32 if split == "train" else 64
        for key, values in sample.items():
            assert values.dtype == np.uint8
            assert values.shape == (side, side, 3)[: 2 + (key in ("marked", "clean", "colour"))]
    # A whole pair, pixel by pixel, by another decoder.
    listing = data.listing("test")
    for index, pair in enumerate(listing.pairs[:3]):
        sample = data.datasets["test"][0, index]
        for key in ("marked", "clean"):
            other = np.asarray(Image.open(pair.files[key]).convert("RGB")).astype(int)
            assert np.abs(sample[key] - other).max() <= 2, "JPEG decoders round differently"
        if "opacity" in more:
            other = np.asarray(Image.open(pair.files["opacity"]).convert("L"))
            assert (sample["opacity"] == other).all()
            assert ((sample["mask"] > 0) == (other > 1)).all()
        elif name == "logo":
            assert (sample["mask"] == np.asarray(Image.open(pair.files["mask"]))).all()
        else:
            difference = np.abs(sample["marked"].astype(int) - sample["clean"]).sum(axis=2)
            assert ((sample["mask"] > 0) == (difference > 15)).all()
        assert set(np.unique(sample["mask"])) == {0, 255}


def test_the_difference_does_not_wrap_around():
    clean = np.array([[[10, 10, 10], [250, 250, 250], [5, 5, 5], [0, 0, 255], [7, 7, 7]]], np.uint8)
    marked = np.array(
        [[[250, 250, 250], [10, 10, 10], [0, 10, 10], [3, 3, 244], [7, 7, 7]]], np.uint8
    )
    assert differs(marked, clean, DIFFERS).tolist() == [[True, True, False, True, False]]
    generator = np.random.default_rng(0)
    one = generator.integers(0, 256, (50, 60, 3), np.uint8)
    other = (one + generator.integers(0, 12, one.shape)).clip(0, 255).astype(np.uint8)
    expected = np.abs(one.astype(int) - other.astype(int)).sum(axis=2) > 15
    assert 0.2 < expected.mean() < 0.8
    assert (differs(one, other, DIFFERS) == expected).all()
    assert (differs(other, one, DIFFERS) == expected).all()


def train(folder, root, data="pairs"):
    cfg = tiny.config(
        *("trainer=debug", "trainer.detect_anomaly=false", "logger=csv", "~callbacks.progress"),
        *(f"data={data}", f"data.root='{root}'", "data.crop=32", "data.batch_size=2"),
        *("data.samples_per_epoch=2", "data.val_samples=2", "data.eval_batch_size=2"),
        *("+callbacks.panels.pictures=2", "threads=1", "print_config=false"),
        *("model=resnet", *tiny.NARROW["resnet"], f"folder={folder}"),
    )
    return tiny.entry_point("train").train(cfg)


def test_a_tiny_network_trains_on_clwd(tmp_path, capsys):
    root = clwd(tmp_path / "clwd", train=30, test=2)
    (root / "train" / "Mask" / "7.png").write_bytes(b"")
    figures = train(tmp_path / "run", root, "clwd")
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == figures
    assert figures["samples_seen"] == 2
    assert figures["test/rmsew_input"] > 50
    assert (tmp_path / "run" / "panels" / "test.png").is_file()
    listed = (tmp_path / "run" / "broken_photos.tsv").read_text()
    assert listed == f"{root / 'train' / 'Mask' / '7.png'}\tempty file\n"
    assert "left out 1 file" in capsys.readouterr().out


def test_a_picture_that_does_not_decode_makes_way_for_the_next(tmp_path):
    flat(tmp_path, "marked", "clean")
    data = module(tmp_path)
    first = data.datasets["test"].pairs[0].files["marked"]
    content = bytearray(Path(first).read_bytes())
    content[33:-12] = bytes(len(content) - 45)  # its head and its tail are whole
    Path(first).write_bytes(content)
    assert not module(tmp_path).broken
    with pytest.warns(UserWarning, match="cannot be decoded: .*marked"):
        sample = data.datasets["test"][0, 0]
    assert (sample["marked"] == data.datasets["test"][0, 1]["marked"]).all()


def coordinates(root, count=6, size=(60, 80)):
    """Pairs whose every map tells, pixel by pixel, which pixel of which picture it is."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.uint8)
    for number in range(count):
        clean = np.dstack([rows, columns, np.full_like(rows, 40 * number)])
        spot = (rows // 8 == 3) & (columns // 8 == number + 1)
        made = {
            "marked": 255 - clean,
            "clean": clean,
            "mask": spot.astype(np.uint8) * 255,
            "opacity": rows ^ columns,
            "colour": clean[..., ::-1],
        }
        for key, values in made.items():
            write(root / key / f"{number}.png", values)
    return root


def test_all_maps_are_cut_and_flipped_alike(tmp_path):
    coordinates(tmp_path)
    listing = read_listing({key: tmp_path / key for key in maps(0)})
    geometry = PairsModule(
        str(tmp_path), "marked", "clean", crop=16, on_mark=1.0, augment=[A.HorizontalFlip(p=0.5)]
    ).geometry
    pairs = Pairs(listing, geometry, seed=3)
    corners, flips = set(), set()
    for epoch in range(8):
        for index in range(6):
            sample = pairs[epoch, index]
            rows, columns, number = np.moveaxis(sample["clean"].astype(int), 2, 0)
            assert (sample["marked"] == 255 - sample["clean"]).all()
            assert (sample["opacity"] == rows ^ columns).all()
            assert (sample["colour"] == sample["clean"][..., ::-1]).all()
            spot = (rows // 8 == 3) & (columns // 8 == number // 40 + 1)
            assert (sample["mask"] == spot * 255).all()
            assert spot.any(), "a crop that is sure to hold a pixel of the mark"
            assert set(np.diff(rows[:, 0])) == {1}
            step = set(np.diff(columns[0]))
            assert step in ({1}, {-1})
            flips |= step
            corners.add((rows.min(), columns.min()))
    assert flips == {1, -1}
    assert len(corners) > 20


def test_each_pair_is_seen_once_before_any_is_seen_twice(tmp_path):
    coordinates(tmp_path)
    listing = read_listing({key: tmp_path / key for key in ("marked", "clean", "mask")})

    def order(samples, epochs):
        geometry = A.Compose([], additional_targets={"clean": "image"})
        pairs = Pairs(listing, geometry, 0, samples)
        count = len(pairs)
        return [
            int(pairs[e, i]["clean"][0, 0, 2]) // 40 for e in range(epochs) for i in range(count)
        ]

    whole = order(None, 4)
    epochs = [tuple(whole[at : at + 6]) for at in range(0, 24, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(epochs)) > 1
    # An epoch may be shorter or longer than the set: the row of pictures stays the same.
    assert order(4, 6) == whole
    assert order(12, 2) == whole


@pytest.mark.slow
def test_samples_depend_on_seed_epoch_and_index_alone(tmp_path):
    root = clwd(tmp_path, train=30, test=2)

    def epochs(*more):
        data = module(root, "clwd", *more)
        loader = data.train_dataloader()
        for epoch in range(2):
            loader.batch_sampler.set_epoch(epoch)
            yield from loader

    def same(one, other):
        return all(torch.equal(one[key], other[key]) for key in one)

    reference = list(epochs())
    for found in (epochs("data.workers=2"), epochs()):
        assert all(same(a, b) for a, b in zip(reference, found, strict=True))
    assert not any(same(a, b) for a, b in zip(reference, epochs("seed=1"), strict=True))
    half = len(reference) // 2
    assert not same(reference[0], reference[half])


def test_pictures_of_many_sizes(tmp_path):
    for number in range(40):
        made = maps(number, 48 + number % 3)
        for key in ("marked", "clean"):
            write(tmp_path / key / f"{number}.png", made[key])
    data = module(tmp_path, "pairs", "data.crop=50")
    for batch in data.train_dataloader():
        assert batch["marked"].shape[1:] == (50, 50, 3), "smaller pictures grow to the crop"
        break
    shapes = [batch["marked"].shape for batch in data.test_dataloader()]
    assert {shape[0] for shape in shapes} == {1}
    assert len({shape[1] for shape in shapes}) > 1
    assert len(shapes) == data.samples["test"]
    resized = module(tmp_path, "pairs", "data.size=96", "data.eval_batch_size=2")
    batch = next(iter(resized.test_dataloader()))
    assert batch["marked"].shape == (2, 96, 96, 3)
    assert set(batch["mask"].unique().tolist()) == {0, 255}
    first = data.datasets["test"][0, 0]
    expected = cv2.resize(first["clean"], (96, 96), interpolation=cv2.INTER_LINEAR)
    assert (batch["clean"][0].numpy() == expected).all()


def test_val_samples_are_spread_over_the_split():
    pairs = [Pair(str(n), {}, (1, 1), str(n), None) for n in range(100)]
    chosen = [int(pair.name) for pair in Pairs(Listing(pairs, {}), samples=7).pairs]
    assert len(chosen) == 7
    assert chosen[0] == 0
    assert {b - a for a, b in itertools.pairwise(chosen)} <= {14, 15}
