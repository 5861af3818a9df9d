"""Packed photos are the photos; an epoch over shards shows each once, whoever reads and resumes."""

import itertools
import json
import os
import pickle
import socket
import tarfile
from functools import partial
from pathlib import Path

import albumentations as A
import cv2
import lightning as L
import numpy as np
import pytest
import tiny
import torch
import torch.multiprocessing as mp
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint

from clearmark.checkpoints import Last
from clearmark.data import MarkedPhotos, Photos, splits
from clearmark.data.order import EpochBatches, ShardOrder
from clearmark.data.packing import index_tars, pack
from clearmark.data.photos import list_photos, split_of
from clearmark.data.shards import CONTENTS, ShardedPhotos, ShardsModule, read_contents
from clearmark.errors import UserError
from clearmark.watermarks import Logo, MarkAssets, Text

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("some") / "photos", count=40)


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("packed") / "shards"
    pack(folder, output, shard_mb=0.1)
    return output


def numbered(root, count):
    """Pictures of one colour each, so that any pixel tells which one it is."""
    root.mkdir()
    for number in range(count):
        colour = np.full((32, 32, 3), (number, 7, 9), np.uint8)
        cv2.imwrite(str(root / f"m{number}.png"), colour[..., ::-1])
    return root


def unmarked(root, **more):
    few = {"batch_size": 3, "size": 32, "crop": 32, "unmarked": 1.0, "val_samples": 2}
    return ShardsModule(root=str(root), watermark=Text(), **few | more)


def repacked(source, output, count):
    """The same photos, those of train in so many shards of uneven sizes."""
    names = read_contents(source)["train"]
    assert len(names) == 1
    photos = names[0].photos
    cuts = [0, *sorted(np.random.default_rng(count).choice(photos - 1, count - 1, False) + 1)]
    rows = np.fromfile(source / "train.index", "<u8").reshape(-1, 2)
    output.mkdir()
    found, index = [], []
    with tarfile.open(source / names[0].name) as tar:
        members = tar.getmembers()
        for at, (low, high) in enumerate(itertools.pairwise([*cuts, photos])):
            path = output / f"train-{at:06d}.tar"
            with tarfile.open(path, "w") as made:
                for member in members[low:high]:
                    made.addfile(member, tar.extractfile(member))
            with tarfile.open(path) as made:
                index += [(m.offset_data, m.size) for m in made.getmembers()]
            found.append([path.name, int(high - low), path.stat().st_size])
    assert [size for _, size in index] == rows[:, 1].tolist()
    np.array(index, "<u8").tofile(output / "train.index")
    for path in source.glob("val*"):
        (output / path.name).write_bytes(path.read_bytes())
    contents = {"train": found, "val": read_contents(source)["val"]}
    (output / CONTENTS).write_text(json.dumps({"version": 1, "splits": contents}))


def test_a_packed_photo_is_its_file_byte_for_byte(folder, shards):
    paths = list_photos(folder)
    for split in SPLITS:
        files = sorted(p.read_bytes() for p in paths if split_of(p) == split)
        photos = ShardedPhotos(shards, split, 512, 32)
        assert sorted(photos.content(number) for number in range(len(photos))) == files
        assert len(photos.shards) == -(-sum(map(len, files)) // 100_000) > 0
    assert len(ShardedPhotos(shards, "train", 512, 32).shards) > 2


def test_folders_of_splits_stay_apart(tmp_path):
    """As data=folder has them: what was kept for val does not come into train by its name."""
    for place in ("train/a", "val", "beside"):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        tiny.photos(tmp_path / "in" / place, 3)
    counts, left_out = pack(tmp_path / "in", tmp_path / "out")
    assert counts == {"train": 3, "val": 3, "test": 0}
    assert {path.parent.name for path in left_out} == {"beside"}


def test_webdataset_reads_the_shards(shards):
    for split in SPLITS:
        photos = ShardedPhotos(shards, split, 512, 32)
        urls = [str(shards / shard.name) for shard in photos.shards]
        streamed = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8")
        keys = set()
        for number, sample in enumerate(streamed):
            keys.add(sample["__key__"])
            np.testing.assert_array_equal(sample["png"], photos[number])
        assert len(keys) == len(photos)


def test_packing_twice_gives_the_same_bytes(folder, shards, tmp_path):
    pack(folder, tmp_path, shard_mb=0.1)  # an empty folder will do
    names = sorted(path.name for path in shards.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    assert all((tmp_path / name).read_bytes() == (shards / name).read_bytes() for name in names)


def test_samples_are_those_of_the_files(folder, shards):
    settings = {"watermark": A.OneOf([Text(), Logo()], p=1), "size": 64, "crop": 64}
    module = ShardsModule(root=str(shards), **settings)
    by_content = {path.read_bytes(): path for path in list_photos(folder)}
    for split in ("val", "train"):
        dataset = module.dataset(split)
        photos = dataset.photos
        paths = [by_content[photos.content(number)] for number in range(len(photos))]
        reference = MarkedPhotos(
            Photos(paths, module.short_side, 64),
            MarkAssets.load(split),
            A.Compose([A.RandomCrop(64, 64)]),
            settings["watermark"],
            seed=0,
            unmarked=0.1 if split == "train" else 0.0,
            on_mark=0.7,
            in_order=True,
        )
        for key in [(0, 0), (0, 2), (3, 1)]:
            one, other = dataset[key], reference[key]
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[name], other[name]) for name in one)


def test_large_photos_are_reduced_and_small_ones_kept(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    ramp = np.linspace(0, 255, 300 * 200).reshape(300, 200).astype(np.uint8)
    for name, picture in {"a.png": ramp, "b.png": ramp[:50, :80], "c.jpg": ramp}.items():
        cv2.imwrite(str(root / name), picture)
    cv2.imwrite(str(root / "exact.jpg"), ramp[:, :100])
    pack(root, tmp_path / "out", short_side=100)
    kept = {(root / name).read_bytes() for name in ("b.png", "exact.jpg")}
    found = {}
    for split in SPLITS:
        if read_contents(tmp_path / "out")[split]:
            photos = ShardedPhotos(tmp_path / "out", split, 512, 1)
            found |= {photos.content(n): photos[n] for n in range(len(photos))}
    assert kept < found.keys()
    made = [photo for content, photo in found.items() if content not in kept]
    small = cv2.resize(ramp, (100, 150), interpolation=cv2.INTER_AREA)
    assert [photo.shape for photo in made] == [(150, 100, 3)] * 2
    assert all(np.abs(photo - small[..., None].astype(int)).max() < 12 for photo in made)


def test_broken_photos_are_left_out_and_named(tmp_path):
    root = numbered(tmp_path / "in", 30)
    content = (root / "m3.png").read_bytes()
    (root / "m3.png").write_bytes(content[:30])
    (root / "m4.png").write_text("no picture at all")
    (root / "sub").mkdir()
    (root / "sub" / "m5.png").write_bytes(content[:45] + bytes(20) + content[65:])
    counts, left_out = pack(root, tmp_path / "out")
    assert sum(counts.values()) == 28
    assert {path.name for path in left_out} == {"m3.png", "m4.png", "m5.png"}
    listed = (tmp_path / "out" / "left_out.tsv").read_text()
    assert sorted(line.split("\t")[0] for line in listed.splitlines()) == [
        "m3.png",
        "m4.png",
        "sub/m5.png",
    ]


def test_an_output_that_holds_something_is_refused(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    for output in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="exists and is not empty"):
            pack(folder, output)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("there", [True, False])
def test_packing_that_breaks_off_leaves_nothing(folder, tmp_path, there):
    def stopped(paths, total):
        yield from itertools.islice(paths, total - 1)
        raise KeyboardInterrupt

    output = tmp_path / "out"
    if there:
        output.mkdir()
    with pytest.raises(KeyboardInterrupt):
        pack(folder, output, shard_mb=0.01, track=stopped)
    assert output.exists() == there
    assert not list(tmp_path.rglob("*/*"))
    pack(folder, output)


def test_photos_that_are_all_broken_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").touch()
    with pytest.raises(UserError, match=r"all 1 photos in .* are broken"):
        pack(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tar_files_of_others_are_indexed_where_they_lie(folder, tmp_path):
    paths = list_photos(folder)
    for number, part in enumerate((paths[:25], paths[25:])):
        with webdataset.TarWriter(str(tmp_path / f"{number:05d}.tar")) as writer:
            for path in part:
                texts = {"txt": "a caption", "json": {"width": 72}}
                writer.write({"__key__": path.stem, "png": path.read_bytes(), **texts})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    counts = index_tars(tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    for split in SPLITS:
        files = [path.read_bytes() for path in paths if split_of(path) == split]
        photos = ShardedPhotos(tmp_path, split, 512, 32)
        assert [photos.content(number) for number in range(counts[split])] == files
    with pytest.raises(UserError, match="has an index"):
        index_tars(tmp_path)


def test_what_is_no_plain_tar_is_not_indexed(tmp_path):
    with pytest.raises(UserError, match="holds no tar files"):
        index_tars(tmp_path)
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.add(__file__, "a.png")
    with pytest.raises(UserError, match=r"a\.tar cannot be read as an uncompressed tar file"):
        index_tars(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / CONTENTS).unlink(), "holds no shards.json; make it"),
        (lambda root: (root / CONTENTS).write_text("{"), "is damaged"),
        (lambda root: (root / CONTENTS).write_text('{"version": 9, "splits": {}}'), "version 9"),
        (lambda root: (root / "train-000001.tar").unlink(), "train-000001.tar is missing"),
        (lambda root: os.truncate(root / "train-000001.tar", 999), "was changed after packing"),
        (lambda root: os.truncate(root / "train.index", 16), "was changed after packing"),
        (lambda root: (root / "train.index").write_bytes(shuffled(root)), "does not fit train-"),
    ],
)
def test_damaged_shards_are_refused(shards, tmp_path, spoil, message):
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        ShardedPhotos(tmp_path, "train", 512, 32).content(0)


def shuffled(root):
    rows = np.fromfile(root / "train.index", "<u8")
    rows[1] = 2**63
    return rows.tobytes()


@pytest.mark.parametrize("row", [["../a.tar", 1, 1], ["", 1, 1], ["a.tar", -1, 1], [None, 1, 1]])
def test_contents_that_point_elsewhere_are_refused(tmp_path, row):
    (tmp_path / CONTENTS).write_text(json.dumps({"version": 1, "splits": {"train": [row]}}))
    with pytest.raises(UserError, match="is damaged"):
        read_contents(tmp_path)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_shard_is_executed(tmp_path):
    root = numbered(tmp_path / "in", 30)
    pack(root, tmp_path / "out")
    photos = ShardedPhotos(tmp_path / "out", "train", 512, 32)
    shard = tmp_path / "out" / photos.shards[0].name
    bomb = pickle.dumps(Bomb(tmp_path / "executed"))
    content = bytearray(shard.read_bytes())
    rows = np.fromfile(tmp_path / "out" / "train.index", "<u8").reshape(-1, 2)
    content[rows[0, 0] : rows[0, 0] + len(bomb)] = bomb
    shard.write_bytes(content)
    with pytest.warns(UserWarning, match=r"cannot be decoded: .*train-000000\.tar, photo 0"):
        np.testing.assert_array_equal(photos[0], photos[1])
    assert not (tmp_path / "executed").exists()
    pickle.loads(bomb)
    assert (tmp_path / "executed").exists()


def test_a_reader_travels_to_another_process(shards):
    photos = ShardedPhotos(shards, "train", 512, 32)
    before = photos[len(photos) - 1]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(photos))[len(photos) - 1], before)


COUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 4), st.integers(0, 3), st.integers(0, 200))
def test_a_pass_takes_every_photo_once_a_few_shards_at_a_time(counts, mix, seed, position):
    order, total = ShardOrder(counts, seed, mix), sum(counts)
    keys = list(itertools.islice(order.start(0), 3 * total))
    for at_pass in range(3):
        part = keys[at_pass * total : (at_pass + 1) * total]
        assert sorted(part) == [(at_pass, number) for number in range(total)]
        of = np.repeat(np.arange(len(counts)), counts)[[number for _, number in part]]
        spans = [np.flatnonzero(of == shard)[[0, -1]] for shard in range(len(counts))]
        for at in range(total):
            assert sum(low <= at <= high for low, high in spans) <= mix
    position %= 2 * total
    assert list(itertools.islice(order.start(position), total)) == keys[position:][:total]


def test_the_order_differs_by_pass_and_seed_and_mixes_shards():
    passes = [ShardOrder([50] * 8, seed, 4).start(400 * p) for seed, p in ((0, 0), (0, 1), (1, 0))]
    drawn = [[number for _, number in itertools.islice(keys, 400)] for keys in passes]
    assert len({tuple(numbers) for numbers in drawn}) == 3
    assert all(len({number // 50 for number in numbers[:40]}) == 4 for numbers in drawn)
    assert drawn[0] != sorted(drawn[0])


@settings(max_examples=150, deadline=None)
@given(COUNTS, st.integers(1, 5), st.integers(1, 4), st.integers(0, 60), st.integers(0, 3))
def test_batches_of_all_processes_are_the_epoch(counts, batch, world, extra, epoch):
    order = ShardOrder(counts, 0, 3)
    length = world + extra  # may be a part of a pass, or several
    expected = list(itertools.islice(order.start(epoch * length), length))
    ranks = [EpochBatches(order, length, batch, rank, world) for rank in range(world)]
    for sampler in ranks:
        sampler.sampler.set_epoch(epoch)
    drawn = [list(sampler) for sampler in ranks]
    assert [len(batches) for batches in drawn] == [len(sampler) for sampler in ranks]
    steps = list(zip(*drawn, strict=True))  # as many on every rank
    assert [key for step in steps for part in step for key in part] == expected
    assert all(len(part) == batch for step in steps[:-1] for part in step)
    assert all(1 <= len(part) <= batch + 1 for part in steps[-1])
    # A run of other processes and batches goes on where so many steps have ended.
    for done in range(len(steps)):
        seen = done * world * batch
        rest = EpochBatches(order, length, 2, epoch=epoch, seen=seen)
        assert [key for part in rest for key in part] == expected[seen:]
        same = EpochBatches(order, length, batch, 0, world, epoch=epoch, seen=seen)
        assert (list(same), len(same)) == (drawn[0][done:], len(ranks[0]))
        same.set_epoch(epoch + 1)
        assert next(iter(same))[0] == next(order.start((epoch + 1) * length))


def test_more_processes_than_samples_are_refused():
    with pytest.raises(UserError, match=r"3 samples cannot be shared out to 4 processes"):
        EpochBatches(ShardOrder([3], 0, 1), 3, 1, 0, 4)


class Recorder(L.LightningModule):
    """Trains one number and notes which pictures it saw."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.stop_at = [], stop_at

    def training_step(self, batch, at):
        if self.stop_at is not None and self.global_step == self.stop_at:
            raise RuntimeError("power cut")
        self.seen.append((self.current_epoch, batch["clean"][:, 0, 0, 0].tolist()))
        return self.weight.sum()

    def validation_step(self, batch, at):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder, callbacks=(), **more):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks),
        **quiet | more,
    )


CASES = [(shards, workers) for shards in (3, 5) for workers in (1, 2)]


@pytest.fixture(autouse=True)
def _workers_at_full_priority(monkeypatch):
    """Or on a busy machine the tests would wait for them."""
    monkeypatch.setattr(splits, "run_when_idle", lambda: None)


def train_one_process(rank, port, root, out):
    torch.set_num_threads(1)
    mp.set_start_method("fork", force=True)  # as in a run that is not a child itself
    splits.run_when_idle = lambda: None
    os.environ |= {  # as torchrun sets them
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"},
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
    }
    found = {}
    for shards, workers in CASES:
        module = Recorder()
        fitted = trainer(root, devices=2, strategy="ddp", max_epochs=2, limit_val_batches=0)
        fitted.fit(module, unmarked(Path(root) / f"shards{shards}", workers=workers))
        assert fitted.world_size == 2
        found[f"{shards} {workers}"] = module.seen
    Path(f"{out}{rank}.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_two_processes_see_every_sample_of_an_epoch_exactly_once(tmp_path):
    pack(numbered(tmp_path / "in", 40), tmp_path / "one")
    total = read_contents(tmp_path / "one")["train"][0].photos
    assert total % 2 == 1  # nor does it divide by two processes
    for shards in (3, 5):
        repacked(tmp_path / "one", tmp_path / f"shards{shards}", shards)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(train_one_process, (port, str(tmp_path), str(tmp_path / "seen")), nprocs=2)
    seen = [json.loads((tmp_path / f"seen{rank}.json").read_text()) for rank in range(2)]
    photos = ShardedPhotos(tmp_path / "one", "train", 512, 32)
    expected = sorted(int(photos[number][0, 0, 0]) for number in range(total))
    for shards, workers in CASES:
        both = [found[f"{shards} {workers}"] for found in seen]
        assert len(both[0]) == len(both[1]) == 2 * -(-total // 6)
        epochs = [
            [number for found in both for epoch, batch in found if epoch == e for number in batch]
            for e in range(2)
        ]
        assert [sorted(numbers) for numbers in epochs] == [expected] * 2
        assert epochs[0] != epochs[1]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Thirteen photos to train on: epochs of five steps, the last of them short."""
    base = tmp_path_factory.mktemp("few")
    pack(numbered(base / "in", 17), base / "out", shard_mb=0.003)
    return base / "out"


@pytest.fixture(scope="module")
def uninterrupted(few, tmp_path_factory):
    module = Recorder()
    trainer(tmp_path_factory.mktemp("all"), max_epochs=3).fit(module, unmarked(few))
    return module.seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at", [1, 3, "end", "end and 2"])
def test_a_resumed_run_sees_the_samples_that_were_not_seen(
    at, workers, few, uninterrupted, tmp_path
):
    steps = len(uninterrupted) // 3
    assert len(uninterrupted[-1][1]) < 3  # the last batch is short
    done = {"end": steps, "end and 2": steps + 2}.get(at, at)
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    first = Recorder()
    trainer(tmp_path, [keep], max_steps=done).fit(first, unmarked(few, workers=workers))
    second = Recorder()
    trainer(tmp_path, max_epochs=3).fit(
        second, unmarked(few, workers=workers), ckpt_path=tmp_path / f"step={done}.ckpt"
    )
    assert first.seen == uninterrupted[:done]
    assert second.seen == uninterrupted[done:]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_broke_within_a_step_does_it_again(few, uninterrupted, tmp_path, workers):
    broken = Recorder(stop_at=7)
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path, [Last(tmp_path, every=1)], max_epochs=3).fit(
            broken, unmarked(few, workers=workers)
        )
    resumed = Recorder()
    trainer(tmp_path, max_epochs=3).fit(
        resumed, unmarked(few, workers=workers), ckpt_path=tmp_path / "last.ckpt"
    )
    assert broken.seen + resumed.seen == uninterrupted


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "keep", [Last, partial(ModelCheckpoint, filename="last", save_on_train_epoch_end=True)]
)
def test_a_checkpoint_of_an_epochs_end_goes_on_with_the_next(
    keep, workers, few, uninterrupted, tmp_path
):
    first = Recorder()
    trainer(tmp_path, [keep(tmp_path)], max_epochs=1).fit(first, unmarked(few))
    second = Recorder()
    trainer(tmp_path, max_epochs=3).fit(
        second, unmarked(few, workers=workers), ckpt_path=tmp_path / "last.ckpt"
    )
    assert first.seen + second.seen == uninterrupted


def test_other_steps_within_an_epoch_are_refused(few, tmp_path):
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2)
    trainer(tmp_path, [keep], max_steps=2).fit(Recorder(), unmarked(few))
    with pytest.raises(UserError, match=r"6 samples into an epoch in steps of 3, .* steps of 4"):
        trainer(tmp_path, max_epochs=2).fit(
            Recorder(), unmarked(few, batch_size=4), ckpt_path=tmp_path / "step=2.ckpt"
        )


def test_an_epoch_may_be_a_part_of_a_pass(few):
    module = unmarked(few, samples_per_epoch=4, batch_size=2)
    module.setup("fit")
    loader = module.train_dataloader()
    keys = []
    for epoch in range(7):
        loader.batch_sampler.sampler.set_epoch(epoch)
        keys += [key for batch in loader.batch_sampler for key in batch]
        assert len(loader) == 2
    total = len(module.datasets["train"].photos)
    assert sorted(keys[:total]) == [(0, number) for number in range(total)]


def test_pack_and_train_as_typed(folder, tmp_path, capsys, composed):
    output = tmp_path / "my shards"
    typed = [f"input={folder}", f"output='{output}'", "short_side=64"]
    counts = tiny.entry_point("pack").pack(composed("pack", *typed))
    assert sum(counts.values()) == 40
    assert f"{counts['train']} train" in capsys.readouterr().out
    given = [*tiny.SMALL, "model=conv_fc", *tiny.NARROW["conv_fc"], "data=shards"]
    given = [word for word in given if word != "data=folder"]
    cfg = tiny.config(*given, f"data.root='{output}'", f"folder={tmp_path / 'run'}")
    figures = tiny.entry_point("train").train(cfg)
    assert np.isfinite(figures["test/psnr"])


@pytest.mark.parametrize("wrong", ["quality=0", "short_side=0", "shard_mb=0"])
def test_pack_refuses_what_cannot_be(wrong, folder, tmp_path, composed):
    cfg = composed("pack", f"input={folder}", f"output={tmp_path / 'out'}", wrong)
    with pytest.raises(UserError, match=f"{wrong} is not allowed; give"):
        tiny.entry_point("pack").pack(cfg)
