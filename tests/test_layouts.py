"""Which files belong together, what is left out and why, and that no two splits share a thing."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from PIL import Image
from sets import CLWD, CLWD_MAPS, SETS, clwd, flat, logo, maps, marked_files, module, write

from clearmark.config import create
from clearmark.data import Pairs, PairsModule
from clearmark.data.layouts import read_listing
from clearmark.errors import UserError


def test_logo_gray_with_truncated_files(tmp_path):
    logo(tmp_path)
    hurt = {
        tmp_path / "natural" / "COCO_val2014_00.jpg": "truncated",
        tmp_path / "train_images/image/COCO_val2014_01-cafe_2_0.png": "truncated",
        tmp_path / "train_images/mask/COCO_val2014_02-cafe_2_0.png": "empty file",
    }
    for path, reason in hurt.items():
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if reason == "truncated" else b"")
    data = module(tmp_path, "logo")
    assert data.broken == hurt
    # The broken background takes both of its marks with it.
    assert data.samples["train"] == 12 - 2 - 1 - 1
    assert data.samples["test"] == 12


def test_logo_27k_without_mask_and_wm(tmp_path, capsys):
    logo(tmp_path, extra=())
    stray = tmp_path / "val_images/image/COCO_val2014_10-cafe_2_1_wm.png"
    write(stray, maps(0)["marked"])
    data = module(tmp_path, "logo")
    assert data.broken == {stray: "its name does not tell background and mark"}
    assert "the mark is taken to be where marked and clean differ" in capsys.readouterr().out
    sample = data.datasets["test"][0, 0]
    # A JPEG blurs the clean picture a little, but no further than its blocks reach.
    truth = maps(20)["mask"] > 0
    found = sample["mask"] > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.9


@pytest.mark.parametrize("name", SETS)
def test_defects_of_every_set_are_left_out_with_their_reasons(name, tmp_path):
    """In each folder a truncated file; a missing one, an empty one, one of another size."""
    root = SETS[name][0](tmp_path)
    pairs = module(root, name).listing("train").pairs
    victims = iter({pair.background: pair for pair in pairs}.values())
    reasons, lost = {}, set()

    def next_file(key):
        """A file, and the marked pictures that need it: a clean one may serve several."""
        path = next(victims).files[key]
        served = [pair for pair in pairs if pair.files[key] == path]
        lost.update(pair.name for pair in served)
        return Path(path), [Path(pair.files["marked"]) for pair in served]

    for key in pairs[0].files:
        path, _ = next_file(key)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        reasons[path] = "truncated"
    path, marked = next_file("clean")
    path.unlink()
    folder = module(root, name).folders["clean"].rpartition("/")[2]
    reasons |= dict.fromkeys(marked, f"no counterpart in {folder}")
    path, marked = next_file("clean")
    write(path, maps(0, 72)["clean"])
    reasons |= dict.fromkeys(marked, "is 64x64, but its clean picture is 72x72")
    path, _ = next_file(next(key for key in ("mask", "opacity", "clean") if key in pairs[0].files))
    path.write_bytes(b"")
    reasons[path] = "empty file"
    if name == "clwd":
        (root / "train" / "Loss_balance" / "1.png").write_bytes(b"")  # nobody reads it
    data = module(root, name)
    assert data.broken == reasons
    left = [pair.name for pair in data.listing("train").pairs]
    assert left == [pair.name for pair in pairs if pair.name not in lost]
    assert data.datasets["train"][0, 0].keys() >= {"marked", "clean", "mask"}


def test_every_defect_is_listed_with_its_reason(tmp_path):
    flat(tmp_path, "marked", "clean", mask="mask")
    deep = "deep"
    reasons = {}
    (tmp_path / "clean" / deep / "p0.png").unlink()
    reasons[tmp_path / "marked" / deep / "p0.png"] = "no counterpart in clean"
    (tmp_path / "marked" / deep / "p1.png").unlink()
    reasons[tmp_path / "clean" / deep / "p1.png"] = "no counterpart in marked"
    (tmp_path / "mask" / deep / "p2.png").unlink()
    reasons[tmp_path / "marked" / deep / "p2.png"] = "no counterpart in mask"
    write(tmp_path / "clean" / deep / "p3.png", maps(3, 72)["clean"])
    size = "is 64x64, but its clean picture is 72x72"
    reasons[tmp_path / "marked" / deep / "p3.png"] = size
    (tmp_path / "marked" / deep / "p4.png").write_text("no picture")
    reasons[tmp_path / "marked" / deep / "p4.png"] = "not a picture"
    write(tmp_path / "clean" / deep / "p5.jpg", maps(5)["clean"])
    reasons[tmp_path / "clean" / deep / "p5.png"] = "p5.jpg has the same name"
    (tmp_path / "marked" / deep / ".p6.png").write_text("hidden")
    (tmp_path / "marked" / "notes.txt").write_text("no picture, and none by its name")
    data = module(tmp_path)
    assert data.broken == reasons
    assert sum(data.samples.values()) == 60 - 5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.root=nowhere"], "data.root=nowhere is not a folder"),
        (["data=clwd"], "has no folder train/Watermarked_image nor "),
        (["data.marked=empty"], "empty holds no pictures"),
        (["data.clean=other"], "there is no folder .*other, and nothing to infer"),
        (["data.marked=one", "data.clean=other"], "no folder .*one and no folder .*other, and"),
        (["data.batch_size=500"], "data.batch_size=500 exceeds the .* training samples"),
        (["data.whole=test"], "has no split 'train': its folders are those of test"),
        (["data.marked=few", "data.clean=few"], "no usable pair in the split '(train|val|test)'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(more, said, tmp_path):
    flat(tmp_path, "marked", "clean")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "few" / "p0.png", maps(0)["clean"])
    with pytest.raises(UserError, match=said) as error:
        module(tmp_path, "pairs", *more)
    assert "\n" not in str(error.value)


def test_without_a_test_set_there_is_no_test(tmp_path):
    clwd(tmp_path, train=30, test=0)
    with pytest.raises(UserError, match="has no split 'test': its folders are those of train"):
        module(tmp_path, "clwd")


def test_official_splits_are_kept_and_val_comes_from_train(tmp_path):
    data = module(clwd(tmp_path / "clwd"), "clwd")
    files = {split: marked_files(data, split) for split in ("train", "val", "test")}
    assert all("/test/" in path for path in files["test"])
    assert len(files["test"]) == 5
    assert all("/train/" in path for path in files["train"] | files["val"])
    assert not files["train"] & files["val"]
    assert len(files["train"] | files["val"]) == 40
    logos = module(logo(tmp_path / "logo"), "logo")
    for split in ("train", "val", "test"):
        assert all(f"/{split}_images/" in path for path in marked_files(logos, split))
        assert logos.samples[split] == 12
    # The user's own: sub-folders of the splits, and no val.
    for split in ("train", "test"):
        flat(tmp_path / "own" / split, "marked", "clean")
    own = module(tmp_path / "own")
    assert len(marked_files(own, "train") | marked_files(own, "val")) == 60
    assert all("/own/test/" in path for path in marked_files(own, "test"))


@pytest.mark.parametrize("name", ["clwd", "pairs"])
def test_no_two_splits_share_a_clean_picture(name, tmp_path):
    """Each clean picture comes under four numbers, which tell nothing."""
    folders = CLWD if name == "clwd" else {"marked": "marked", "clean": "clean"}
    inner = "train" if name == "clwd" else ""
    for number in range(120):
        made, other = maps(number % 30), maps(number)
        write(tmp_path / inner / folders["clean"] / f"{number}.jpg", made["clean"])
        write(tmp_path / inner / folders["marked"] / f"{number}.jpg", other["marked"])
    if name == "clwd":
        clwd(tmp_path, train=0, test=2)
    data = module(tmp_path, name)
    seen = {}
    for split in ("train", "val", "test"):
        for pair in data.listing(split).pairs:
            if "/test/" not in pair.files["marked"]:
                seen.setdefault(int(pair.name) % 30, set()).add(split)
    assert len(seen) == 30
    assert all(len(splits) == 1 for splits in seen.values())
    assert set().union(*seen.values()) >= {"train", "val"}


@pytest.mark.parametrize("splits", [("train", "test"), ()])
def test_no_two_splits_share_a_mark_where_names_tell_it(splits, tmp_path):
    """Without a val set, or without any, on twelve backgrounds under each of twelve marks."""
    prefix = "{split}_images/" if splits else ""
    for split in splits or ("",):
        for background in range(12):
            for mark in range(12):
                folder = tmp_path / prefix.replace("{split}", split) / "image"
                name = f"{split}{background}-logo{mark}.png"
                write(folder / name, maps(12 * background + mark)["marked"])
            write(tmp_path / "natural" / f"{split}{background}.jpg", maps(background)["clean"])
    given = {
        "marked": f"{prefix}image",
        "clean": "natural",
        "names": "(?P<background>.+)-(?P<mark>.+)",
    }
    data = PairsModule(str(tmp_path), **given)
    told = {}
    for split in ("train", "val", "test"):
        pairs = data.listing(split).pairs
        told[split] = {p.background for p in pairs}, {p.mark for p in pairs}
    others = (
        [("train", "val")] if splits else [("train", "val"), ("train", "test"), ("val", "test")]
    )
    assert all(told["train"])
    for one, other in others:
        for mine, theirs in zip(told[one], told[other], strict=True):
            assert not mine & theirs
    left_out = data.listing("train").broken
    assert left_out
    assert all("fall into different splits" in reason for reason in left_out.values())
    kept = sum(len(data.listing(split).pairs) for split in ("train", "val"))
    kept += 0 if splits else len(data.listing("test").pairs)
    assert kept + len(left_out) == 144


def test_a_pair_never_moves_to_another_split(tmp_path):
    flat(tmp_path / "one", "marked", "clean")
    before = module(tmp_path / "one")
    for number in range(60, 90):
        for key in ("marked", "clean"):
            write(tmp_path / "one" / key / "more" / f"p{number}.png", maps(number)[key])
    after = module(tmp_path / "one")
    for split in ("train", "val", "test"):
        assert marked_files(before, split) < marked_files(after, split)


def test_a_set_may_be_a_test_set_as_a_whole(tmp_path):
    data = create(
        tiny.config("data=ilaw", f"data.root='{SETS['ilaw'][0](tmp_path)}'", "data.whole=test").data
    )
    data.setup("test")
    assert data.samples["test"] == 60
    assert len(list(data.test_dataloader())) == 8


def test_a_picture_on_its_side_is_set_upright(tmp_path):
    made = maps(0, 64)
    wide = {key: values[:40] for key, values in made.items()}
    for key in ("marked", "clean"):
        write(tmp_path / key / "one.png", wide[key])
    lying = Image.fromarray(np.rot90(wide["marked"]))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to the right
    (tmp_path / "marked" / "one.png").unlink()
    lying.save(tmp_path / "marked" / "one.jpg", exif=exif, quality=100, subsampling=0)
    listing = read_listing({key: tmp_path / key for key in ("marked", "clean")})
    assert not listing.broken
    assert listing.pairs[0].size == (64, 40)
    sample = Pairs(listing)[0, 0]
    assert np.abs(sample["marked"].astype(int) - wide["marked"]).max() < 12


def test_nothing_is_decoded_to_list_a_folder(tmp_path, monkeypatch):
    clwd(tmp_path, train=5, test=0)

    def refuse(*given):
        raise AssertionError("decoded a picture")

    monkeypatch.setattr(cv2, "imread", refuse)
    monkeypatch.setattr(cv2, "imdecode", refuse)
    folders = {**CLWD, **CLWD_MAPS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listing = read_listing({key: tmp_path / "train" / f for key, f in folders.items()})
    assert len(listing.pairs) == 5
    assert {pair.size for pair in listing.pairs} == {(64, 64)}
