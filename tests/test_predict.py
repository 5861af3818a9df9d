"""Prediction on the user's own files: names, refusals, broken files."""

import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import ExifTags, Image, ImageCms

import predict
from clearmark import cli, config, jobs, metadata, pictures, released
from clearmark.errors import UserError
from clearmark.inference import restore
from clearmark.runs import load_network


@pytest.fixture
def photos(tmp_path):
    """Three photos in nested folders, with names that shells and Hydra stumble over."""
    names = ["one.jpg", "my trip/a = b, (1).png", "my trip/deep/zwei.webp"]
    for seed, name in enumerate(names):
        path = tmp_path / "in put" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(seed).integers(0, 256, (40 + seed, 51, 3), np.uint8)
        cv2.imwrite(str(path), cv2.GaussianBlur(image, (0, 0), 3))
    return tmp_path / "in put"


@pytest.fixture
def run(composed, run_folder):
    """Predicts as the command line does, quoting included."""

    def run(source, target, *more, ckpt=run_folder):
        where = [] if target is None else [f"output={target}"]
        typed = [f"ckpt={ckpt}", f"input={source}", *where, "device=cpu", *more]
        return predict.predict(composed("predict", *cli.quote_paths(typed, predict.PATHS)))

    return run


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_folder_keeps_its_names(run, photos, tmp_path):
    assert run(photos, tmp_path / "out") == {}
    assert names(tmp_path / "out") == names(photos)


def test_a_file_holds_what_the_network_says(run, photos, tmp_path, run_folder):
    source, target = photos / "my trip" / "a = b, (1).png", tmp_path / "o u t.png"
    assert run(source, target, "save_mask=true") == {}
    image = cv2.imread(str(source))[..., ::-1]
    restored, mask = restore(load_network(run_folder)[0], image)
    written = cv2.imread(str(target))[..., ::-1].astype(int)
    assert np.abs(written - restored).max() <= 1  # another memory format rounds differently
    assert np.abs(written - image).max() > 1
    seen = cv2.imread(str(tmp_path / "o u t_mask.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(seen / 255, mask, atol=1.5 / 255)


def test_a_file_goes_into_a_folder_under_its_name(run, photos, tmp_path):
    run(photos / "one.jpg", tmp_path / "new")
    assert names(tmp_path / "new") == ["one.jpg"]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("in put/one.jpg", "in put/one_restored.jpg"),
        ("in put/my trip/a = b, (1).png", "in put/my trip/a = b, (1)_restored.png"),
        ("in put", "in put_restored"),
        ("in put/", "in put_restored"),
        ("in put/my trip/..", "in put_restored"),
        ("in put/my trip/deep", "in put/my trip/deep_restored"),
    ],
)
def test_without_an_output_it_goes_beside_the_input(source, target, run, photos, tmp_path):
    before = names(tmp_path)
    assert run(f"{tmp_path}/{source}", None) == {}
    new = [name for name in names(tmp_path) if name not in before]
    inside = [target] if "." in target else [f"{target}/{n}" for n in names(tmp_path / source)]
    assert new == sorted(inside)
    if "." in target:
        with pytest.raises(UserError, match="exists; add overwrite=true"):
            run(f"{tmp_path}/{source}", None)
    run(f"{tmp_path}/{source}", None, "overwrite=true", "save_mask=true")


def test_the_folder_one_stands_in_goes_beside_itself(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos / "my trip")
    run(".", None)
    assert len(names(photos / "my trip_restored")) == 2


def test_a_kind_that_cannot_be_written_becomes_a_png(photos):
    for name in ("a.sr", "a.xyz"):
        (photos / name).touch()
    assert jobs._beside(photos / "a.sr").name == "a_restored.sr"  # OpenCV writes it
    assert jobs._beside(photos / "a.xyz").name == "a_restored.png"
    with pytest.raises(UserError, match="add output="):
        jobs._beside(photos / "/")


def test_broken_files_are_named_and_the_rest_is_done(run, photos, tmp_path):
    (photos / "text.jpg").write_text("no picture")
    (photos / "empty.png").touch()
    (photos / "half.jpg").write_bytes((photos / "one.jpg").read_bytes()[:-300])
    (photos / "notes.txt").write_text("left alone")
    broken = run(photos, tmp_path / "out")
    assert {path.name for path in broken} == {"text.jpg", "empty.png", "half.jpg"}
    assert len(names(tmp_path / "out")) == 3


def test_nothing_is_overwritten_unasked(run, photos, tmp_path):
    target = tmp_path / "out.png"
    target.write_text("mine")
    with pytest.raises(UserError, match="overwrite=true"):
        run(photos / "one.jpg", target)
    assert target.read_text() == "mine"
    run(photos / "one.jpg", target, "overwrite=true")
    assert cv2.imread(str(target)) is not None
    assert names(tmp_path)[-1] == "out.png"  # and no leftovers


def test_the_input_is_never_overwritten(run, photos, tmp_path):
    before = (photos / "one.jpg").read_bytes()
    link = tmp_path / "link"
    link.symlink_to(photos)
    for source, target in [
        (photos, photos),
        (photos, link),
        (photos / "one.jpg", photos / "one.jpg"),
        (photos / "one.jpg", photos),
        (photos / "one.jpg", link / "one.jpg"),
    ]:
        with pytest.raises(UserError, match=r"is (the|an) input"):
            run(source, target, "overwrite=true")
    assert (photos / "one.jpg").read_bytes() == before


def test_results_inside_the_input_are_not_restored_again(run, photos):
    for _ in range(2):
        run(photos, photos / "clean", "overwrite=true")
    assert len(names(photos)) == 6


def test_two_results_of_one_name_are_refused(run, photos, tmp_path):
    (photos / "one.png").write_bytes((photos / "one.jpg").read_bytes())
    with pytest.raises(UserError, match="two results"):
        run(photos, tmp_path / "out", "save_mask=true")


@pytest.mark.parametrize(
    ("source", "target", "more", "said"),
    [
        ("missing.jpg", "out.png", (), "does not exist"),
        (".", "out", (), "holds no pictures"),
        ("in put/one.jpg", "out.xyz", (), "cannot be written"),
        ("in put/one.jpg", "out.png", ("device=teapot",), "device=teapot"),
    ],
)
def test_bad_input(run, photos, tmp_path, source, target, more, said):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=said):
        run(empty if source == "." else tmp_path / source, tmp_path / target, *more)
    assert not (tmp_path / target).exists()


def test_a_checkpoint_that_is_none(run, photos, tmp_path):
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        run(photos, tmp_path / "out", ckpt=photos / "one.jpg")


@pytest.mark.parametrize("value", ["it's", "a\\", "a\\'b", "(1) [2] {3}", "$x", "a=b,c", "ü #"])
def test_any_path_survives_the_command_line(composed, value):
    [quoted] = cli.quote_paths([f"input={value}"], ("input",))
    assert composed("predict", quoted).input == value


@pytest.mark.slow
def test_the_command(photos, tmp_path, run_folder):
    (photos / "bad.jpg").write_text("no picture")
    command = [sys.executable, str(ROOT / "src" / "predict.py"), f"ckpt={run_folder}"]
    command += [f"input={photos}", "output=o (1)", "threads=1", "device=cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "bad.jpg: not a picture" in done.stderr
    assert "Traceback" not in done.stderr
    # Nothing but the results: no logs, no folders of Hydra's.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in put", "o (1)"]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "restored 0 of 4, 3 were there already (overwrite=true replaces them)" in again.stdout
    assert "bad.jpg: not a picture" in again.stderr


# Many files


def mixed(folder, count):
    """So many pictures of every kind that people have, small, and of odd sizes."""
    generator, paths = np.random.default_rng(0), []
    for number in range(count):
        pixels = generator.integers(0, 256, (1 + number % 37, 1 + number % 23, 4), np.uint8)
        kind = number % 10
        suffix = [".jpg", ".png", ".webp", ".tif", ".tif", ".jpg", ".png", ".jpg", ".jpeg", ".bmp"]
        path = folder / f"album {number % 3}" / f"{number:03}{suffix[kind]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.append(path)
        if kind == 4:
            cv2.imwrite(str(path), pixels[..., :3].astype(np.uint16) * 257)
        elif kind == 7:
            turned = Image.Exif()
            turned[metadata.ORIENTATION] = 1 + number // 10 % 8
            Image.fromarray(pixels[..., :3]).save(path, exif=turned)
        else:
            mode = {5: "L", 6: "RGBA", 8: "CMYK"}.get(kind, "RGB")
            Image.fromarray(pixels, "RGBA").convert(mode).save(path)
    return paths


def spoiled(path, how):
    content = path.read_bytes()
    kinds = [b"", b"no picture", content[: len(content) // 2], content[:20], bytes(len(content))]
    path.write_bytes(kinds[how % len(kinds)])


def test_two_hundred_pictures_ten_of_them_broken(run, tmp_path, capsys):
    paths = mixed(tmp_path / "in", 200)
    for how, path in enumerate(paths[3::20]):
        spoiled(path, how)
    broken = run(tmp_path / "in", tmp_path / "out")
    assert set(broken) == set(paths[3::20])
    assert all(len(reason.splitlines()) == 1 for reason in broken.values())
    made = {path.name: path for path in (tmp_path / "out").rglob("*.*")}
    assert made.keys() == {path.name for path in paths} - {path.name for path in broken}
    for path in set(paths) - set(broken):
        given, restored = pictures.read(path), pictures.read(made[path.name])
        assert restored.pixels.shape == given.pixels.shape
        assert restored.pixels.dtype == given.pixels.dtype
        assert (restored.alpha is None) == (given.alpha is None)
    assert "restored 190 of 200: " in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in made.values()}
    for missing in (paths[0], paths[117]):
        made[missing.name].unlink()
    assert run(tmp_path / "in", tmp_path / "out") == broken
    assert "restored 2 of 200, 188 were there already (" in capsys.readouterr().out
    again = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert sorted(path.name for path in again) == [paths[0].name, paths[117].name]


def test_a_result_that_is_not_there_is_not_named(run, tmp_path, capsys):
    (tmp_path / "words.jpg").write_text("no picture")
    assert run(tmp_path / "words.jpg", tmp_path / "out.png")
    assert capsys.readouterr().out == "restored 0 of 1\n"


def test_what_trains_is_not_imported(photos, tmp_path):
    """It takes longer than to restore a photo."""
    code = (
        "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print(*sys.modules, sep='\\n')"
    )
    words = [ROOT / "src" / "predict.py", photos / "one.jpg", "output=one.png", "ckpt=unet"]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "restored 1 of 1" in done.stdout
    modules = set(done.stdout.split())
    assert "torch" in modules
    assert not modules & {"lightning", "torchmetrics", "albumentations", "scipy", "wandb"}


def test_what_stands_beside_a_result_is_made_later(run, photos, tmp_path):
    run(photos, tmp_path / "out")
    (tmp_path / "out" / "one.jpg").write_text("mine")
    run(photos, tmp_path / "out", "save_mask=true")
    assert (tmp_path / "out" / "one.jpg").read_text() == "mine"
    assert (tmp_path / "out" / "one_mask.png").exists()
    run(photos, tmp_path / "out", "save_mask=true", "overwrite=true")
    assert (tmp_path / "out" / "one.jpg").read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("in put/*.jpg", ["one.jpg"]),
        ("in put/**/*.*", ["my trip/a = b, (1).png", "my trip/deep/zwei.webp", "one.jpg"]),
        ("in put/*/*[)].p?g", ["my trip/a = b, (1).png"]),
        ("*/my trip/*", ["in put/my trip/a = b, (1).png"]),
    ],
)
def test_a_pattern(pattern, found, run, photos, tmp_path):
    (photos / "notes.txt").touch()
    run(tmp_path / pattern, tmp_path / "out")
    assert names(tmp_path / "out") == found


def test_a_pattern_goes_beside_its_folder(run, photos, tmp_path, monkeypatch):
    run(tmp_path / "in put/*.jpg", None)
    assert names(tmp_path / "in put_restored") == ["one.jpg"]
    monkeypatch.chdir(photos)
    run("*.jpg", None)
    run("*.jpg", None, "save_mask=true")
    assert names(tmp_path / "in put_restored") == ["one.jpg", "one_mask.png"]
    with pytest.raises(UserError, match="matches no pictures"):
        run("*.jpeg", None)


def test_kinds_that_are_not_read_are_named(run, photos, tmp_path, capsys):
    for name in ("a.heic", "b.HEIC", "my trip/c.heic", "my trip/d.heic", "e.nef"):
        (photos / name).touch()
    assert run(photos, tmp_path / "out") == {}
    assert len(names(tmp_path / "out")) == 3
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"left out {photos}/a.heic, {photos}/b.HEIC, {photos}/my trip/c.heic ")
    assert first.endswith(" and 1 more: .heic is not read; convert it to .png")
    assert second == f"left out {photos}/e.nef: .nef is not read; convert it to .png"
    run(photos / "*.jpg", tmp_path / "other")
    assert "left out" not in capsys.readouterr().err
    with pytest.raises(UserError, match=r"matches no pictures, but \.heic, which is not"):
        run(f"{photos}/?.h*", tmp_path / "none")
    (photos / "a.heic").write_text("of a telephone")
    broken = run(photos / "a.heic", tmp_path / "a.png")
    assert list(broken.values()) == [".heic is not read; convert it to .png"]


def test_a_jfif_is_a_jpeg(run, photos, tmp_path):
    (photos / "two.jfif").write_bytes((photos / "one.jpg").read_bytes())
    run(photos, tmp_path / "out")
    run(photos / "one.jpg", tmp_path / "alone.jfif")
    for name in ("out/two.jfif", "alone.jfif"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "out/one.jpg").read_bytes()


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["in put/one.jpg"], ["input=in put/one.jpg"]),
        (["compare=true", "a = b.jpg"], ["compare=true", "input=a = b.jpg"]),
        (["in put"], ["input=in put"]),
        (["missing.jpg"], ["missing.jpg"]),
        (["in put", "input=x"], ["in put", "input=x"]),
        (["in put", "in put"], ["in put", "in put"]),
        (["--config-dir", "in put"], ["--config-dir", "in put"]),
        (["mask=here"], ["mask=here"]),
        ([""], [""]),
    ],
)
def test_a_path_that_stands_alone_is_the_input(typed, read, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a = b.jpg", "mask=here"):
        (tmp_path / name).touch()
    assert cli.name_path(["predict.py", *typed], "input") == ["predict.py", *read]


def test_a_name_with_the_signs_of_a_pattern_is_a_name(run, photos, tmp_path):
    (photos / "one[1].jpg").write_bytes((photos / "one.jpg").read_bytes())
    run(photos / "one[1].jpg", tmp_path / "out.png")
    run(photos, tmp_path / "out")
    assert len(names(tmp_path / "out")) == 4


# What is asked for besides, and what a file says beside its pixels


def test_a_comparison(run, photos, tmp_path):
    run(photos / "one.jpg", tmp_path / "out.png", "compare=true", "save_mask=true")
    assert names(tmp_path)[-3:] == ["out.png", "out_compare.png", "out_mask.png"]
    before, after, mask = np.hsplit(pictures.read(tmp_path / "out_compare.png").pixels, 3)
    np.testing.assert_array_equal(before, pictures.read(photos / "one.jpg").pixels)
    np.testing.assert_array_equal(after, pictures.read(tmp_path / "out.png").pixels)
    np.testing.assert_array_equal(mask, pictures.read(tmp_path / "out_mask.png").pixels)
    with pytest.raises(UserError, match=r"out_compare\.png exists"):
        run(photos / "one.jpg", tmp_path / "out.tif", "compare=true")


def test_a_mask_limits_where_it_acts(run, photos, tmp_path):
    given = pictures.read(photos / "one.jpg").pixels
    hint = np.zeros(given.shape[:2], np.uint8)
    hint[:, 20:], hint[:, 40:] = 128, 255
    cv2.imwrite(str(tmp_path / "my hint.png"), hint)
    run(photos / "one.jpg", tmp_path / "all.png")
    run(photos / "one.jpg", tmp_path / "some.png", f"mask='{tmp_path / 'my hint.png'}'")
    everywhere, some = (pictures.read(tmp_path / n).pixels for n in ("all.png", "some.png"))
    assert (everywhere[:, :20] != given[:, :20]).any()
    np.testing.assert_array_equal(some[:, :20], given[:, :20])
    np.testing.assert_array_equal(some[:, 40:], everywhere[:, 40:])
    half = (given[:, 20:40].astype(float) + everywhere[:, 20:40]) / 2
    assert np.abs(some[:, 20:40] - half).max() <= 1


def test_masks_of_a_folder_go_by_its_names(run, photos, tmp_path):
    hints = tmp_path / "hints"
    for name in ("one.png", "my trip/a = b, (1).png"):
        size = pictures.read(next(photos.glob(f"{name[:-4]}.*"))).pixels.shape[:2]
        (hints / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(hints / name), np.zeros(size, np.uint8))
    cv2.imwrite(str(hints / "one.png"), np.zeros((3, 4), np.uint8))
    broken = run(photos, tmp_path / "out", f"mask={hints}")
    said = {path.name: reason for path, reason in broken.items()}
    assert said.keys() == {"one.jpg", "zwei.webp"}
    assert said["one.jpg"].endswith("one.png is 4x3, the picture 51x40")
    assert "zwei.png: cannot be read: No such file" in said["zwei.webp"]


@pytest.mark.parametrize("hint", ["nowhere.png", "in put"])
def test_a_mask_that_is_none(hint, run, photos, tmp_path):
    with pytest.raises(UserError, match=r"mask=.* is no picture, nor a folder of them"):
        run(photos / "one.jpg", tmp_path / "out.png", f"mask='{tmp_path / hint}'")


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def telling():
    """EXIF with an author, a place, a date, and an orientation."""
    exif = Image.Exif()
    exif[0x8298], exif[metadata.ORIENTATION] = "(c) me", 6
    exif.get_ifd(0x8769)[0x9003], exif.get_ifd(0x8825)[1] = "2020:01:01 00:00:00", "N"
    return exif


@pytest.mark.parametrize("source", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_metadata_comes_along(source, target, run, tmp_path, capsys):
    made = Image.fromarray(np.full((20, 30, 3), 90, np.uint8))
    path = tmp_path / f"photo{source}"
    made.save(path, exif=telling(), icc_profile=PROFILE)
    run(path, tmp_path / f"out{target}")
    with Image.open(tmp_path / f"out{target}") as image:
        assert image.size == (20, 30)
        assert image.info["icc_profile"] == PROFILE
        exif = image.getexif()
        assert exif.get(metadata.ORIENTATION, 1) == 1
        assert "without" not in capsys.readouterr().out
        assert exif[0x8298] == "(c) me"
        if source != ".tif":  # Pillow does not write these there
            assert exif.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
            assert exif.get_ifd(0x8825)[1] == "N"


def test_a_mask_is_not_to_be_had_of_a_network_without(run, photos, tmp_path):
    layer = {"_target_": "torch.nn.ReLU", "_partial_": True}
    model = {"_target_": "clearmark.models.ResNet", "activation": layer, "width": 4}
    model |= {"dilations": [1], "mask": False}
    released.write(tmp_path / "model", config.build_network(model), {"model": model}, "# A card\n")
    with pytest.raises(UserError, match=r"save_mask=true.* predicts no mask; leave it out"):
        run(photos, tmp_path / "out", "save_mask=true", ckpt=tmp_path / "model")
    assert names(tmp_path / "out") == []


def test_sixteen_bits_keep_it(run, tmp_path, capsys):
    pixels = np.full((20, 30, 3), 9000, np.uint16)
    blocks = [np.frombuffer(b, np.uint8) for b in (telling().tobytes()[6:], PROFILE)]
    keys = [cv2.IMAGE_METADATA_EXIF, cv2.IMAGE_METADATA_ICCP]
    (tmp_path / "a.png").write_bytes(cv2.imencodeWithMetadata(".png", pixels, keys, blocks)[1])
    for name in ("b.png", "b.tif"):
        run(tmp_path / "a.png", tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.info["icc_profile"] == PROFILE
            assert image.getexif()[0x8298] == "(c) me"
        assert pictures.read(tmp_path / name).pixels.dtype == np.uint16
    assert "without" not in capsys.readouterr().out
    run(tmp_path / "a.png", tmp_path / "b.ppm")
    assert ".ppm is written without EXIF and colour profile; use .png" in capsys.readouterr().out


def test_a_profile_of_greys_is_left_behind(tmp_path):
    grey = bytearray(PROFILE)
    grey[16:20] = b"GRAY"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "g.png", icc_profile=bytes(grey))
    picture = pictures.read(tmp_path / "g.png")
    assert not any(picture.metadata)
    assert picture.losses == ("its colour profile, not of RGB, stays behind",)


def test_no_thumbnail_shows_what_was_there(run, tmp_path):
    # Two directories of one entry each: whose it is, and that there is a thumbnail.
    author = struct.pack("<HHHI4sI", 1, 0x8298, 2, 3, b"me\0\0", 26)
    thumbnail = struct.pack("<HHHIHHI", 1, 0x0103, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 8) + author + thumbnail
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert dict(image.getexif().get_ifd(ExifTags.IFD.IFD1)) == {0x0103: 6}
    run(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[0x8298] == "me"
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


def test_quality(run, photos, tmp_path):
    for suffix in (".jpg", ".webp", ".avif"):
        sizes = []
        for quality in (100, 95, 30):
            file = tmp_path / f"q{quality}{suffix}"
            run(photos / "one.jpg", file, f"quality={quality}")
            sizes.append(file.stat().st_size)
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == 3
    run(photos / "one.jpg", tmp_path / "exact.png")
    exact, webp = (pictures.read(tmp_path / n).pixels for n in ("exact.png", "q100.webp"))
    np.testing.assert_array_equal(webp, exact)
