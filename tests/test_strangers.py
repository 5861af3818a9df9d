"""Files from strangers: nothing in them is run, and what is broken is refused in one clear line."""

import contextlib
import json
import os
import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save
from torch import nn

import predict
from clearmark import cli, config, initial, metadata, pictures, runs
from clearmark.errors import UserError
from clearmark.inference import restore

MODEL = {
    "_target_": "clearmark.models.ResNet",
    "activation": {"_target_": "torch.nn.ReLU", "_partial_": True},
    "width": 4,
    "dilations": [1],
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that code would leave, and the check that none did."""
    path = tmp_path / "ran"
    monkeypatch.setenv("MARKER", str(path))
    yield path
    assert not path.exists(), "code from the file was run"


class Shell:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_the_pickle_would_do_harm(tmp_path):
    """Or the tests below would prove nothing."""
    pickle.loads(pickle.dumps(Shell(f"touch {tmp_path / 'ran'}")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["zip", "old zip", "bare"])
def test_a_pickle_in_a_checkpoint_is_not_run(kind, marker, tmp_path, capsys):
    path = tmp_path / "evil.ckpt"
    content = {"config": {"model": MODEL}, "state_dict": {}, "x": Shell(f"touch {marker}")}
    if kind == "bare":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UserError, match="nothing in it was run") as caught:
        runs.load_network(path)
    assert "weights_only" not in str(caught.value)  # torch's advice to load it all the same


def evil(command):
    """Changes of a network's config, each of which names code that it should not."""
    shell = {"_target_": "os.system", "_args_": [command]}
    popen = {"_target_": "subprocess.Popen", "args": ["sh", "-c", command]}
    create = "${oc.create:'{_target_: os.system, _args_: [\"" + command + "\"]}'}"
    return {
        "nested": {"activation": shell},
        "nested twice": {"activation": {"_target_": "torch.nn.Sequential", "_args_": [[shell]]}},
        "partial": {"activation": shell | {"_partial_": True}},
        "partial at the top": {"_partial_": True},
        "in positions": {"_args_": [popen]},
        "in a list": {"dilations": [1, popen]},
        "under a new key": {"extra": popen},
        "not recursive": {"_recursive_": False, "activation": popen},
        "created by a resolver": {"activation": create},
        "the environment": {"width": "${oc.env:MARKER}"},
        "an interpolated target": {"_target_": "${oc.env:MARKER}"},
        "a target in a dict": {"_target_": shell},
        "a target in a list": {"_target_": ["os.system"]},
        "through our module": {"_target_": "clearmark.runs.subprocess.Popen", "args": command},
        "through our networks": {"_target_": "clearmark.models.base.torch.hub.load"},
        "through torch.nn": {"_target_": "torch.nn.modules.module.torch.jit.ScriptModule"},
        "a graph of torch.fx": {"_target_": "torch.nn.modules.module.torch.fx.GraphModule"},
        "a method": {"_target_": "torch.nn.Module.load_state_dict"},
        "hydra itself": {"_target_": "hydra.utils.instantiate", "config": shell},
        "hydra's own methods": {"activation": {"_target_": "hydra.utils.get_method", "path": "os"}},
        "a lambda": {"activation": {"_target_": "builtins.eval", "_args_": ["1"]}},
        "no target": {"_target_": None},
    }


@pytest.mark.parametrize("kind", evil(""))
def test_a_config_in_a_checkpoint_names_no_code(kind, marker, tmp_path):
    path = tmp_path / "evil.ckpt"
    model = MODEL | evil(f"touch {marker}")[kind]
    torch.save({"config": {"model": model}, "state_dict": {}}, path)
    with pytest.raises(UserError, match=r"evil\.ckpt is not loaded: ") as caught:
        runs.load_network(path)
    assert "\n" not in str(caught.value)


# A released model


def release(folder, model, weights=b""):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model": model}))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize("kind", evil(""))
def test_a_released_config_names_no_code(kind, marker, tmp_path):
    model = MODEL | evil(f"touch {marker}")[kind]
    folder = release(tmp_path / "evil", model, save({"a": torch.zeros(1)}))
    for path in (folder, folder / "model.safetensors"):
        with pytest.raises(UserError, match=r"model\.safetensors is not loaded: ") as caught:
            runs.load_network(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["created by a resolver", "the environment", "nested"])
def test_training_does_not_start_from_such_a_config(kind, marker, tmp_path, composed):
    folder = release(tmp_path / "evil", MODEL | evil(f"touch {marker}")[kind], save({}))
    with pytest.raises(UserError, match=r"init=.* is not loaded"):
        initial.adopt(composed("train", f"init='{folder}'", "folder=run", "name=run"))


def header(text, body=b""):
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def described(body=bytes(8), **tensors):
    return header(json.dumps(tensors).encode(), body)


WEIGHTS = {
    "nothing": b"",
    "a pickle": None,  # written by the test
    "a length beyond the file": struct.pack("<Q", 2**62) + b"{}",
    "a length of the file's own": struct.pack("<Q", 100_000_000) + b"{" * 1000,
    "no JSON": header(b"{{{{"),
    "deep JSON": header(b"[" * 100_000),
    "no table": header(b"[1, 2]"),
    "no entry": described(a=5),
    "an unknown type": described(a=entry("PICKLE")),
    "more than the file holds": described(a=entry(offsets=(0, 2**40), shape=(2**38,))),
    "less than its shape": described(a=entry(shape=(1000,))),
    "a shape that overflows": described(a=entry(shape=(2**63, 2**63))),
    "a negative shape": described(a=entry(shape=(-2,))),
    "two in one place": described(a=entry(), b=entry()),
    "backwards": described(a=entry(offsets=(8, 0))),
    "a gap": described(bytes(16), a=entry(offsets=(8, 16))),
    "none of the network's": described(a=entry()),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_released_weights_of_any_kind_are_one_line(kind, marker, tmp_path):
    content = WEIGHTS[kind]
    if content is None:
        content = pickle.dumps(Shell(f"touch {marker}"))
    folder = release(tmp_path / "evil", MODEL, content)
    with pytest.raises(
        UserError, match=r"model\.safetensors (cannot be read|does not fit)"
    ) as caught:
        runs.load_network(folder)
    assert "\n" not in str(caught.value)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_bytes_of_a_released_model_are_a_network_or_one_line(data, tmp_path):
    torch.manual_seed(0)
    network = config.build_network(MODEL)
    whole = [json.dumps({"model": MODEL}).encode(), save(network.state_dict())]
    which = data.draw(st.integers(0, 1))
    content = bytearray(whole[which])
    reach = min(len(content), 4000) - 1  # the header, where it can go wrong
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, reach))] = data.draw(st.integers(0, 255))
    whole[which] = bytes(content[: data.draw(st.integers(0, len(content)))] or content)
    for name, part in zip(("config.json", "model.safetensors"), whole, strict=True):
        (tmp_path / name).write_bytes(part)
    try:
        said = runs.load_network(tmp_path)[0].training
    except UserError as error:
        said = str(error)
    assert said is False or len(said.splitlines()) == 1


NAMES = ["clearmark.models.UNet", "torch.nn.ReLU", "torch.nn.Sequential", "os.getcwd", "${seed}"]
PLAIN = st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=4)
KEYS = st.sampled_from(["_target_", "_partial_", "_args_", "activation", "widths", "mask", "x"])
VALUES = st.recursive(
    PLAIN | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5) | VALUES)
def test_any_config_is_a_network_or_one_line(model):
    with contextlib.suppress(UserError):
        assert isinstance(config.build_network(model), nn.Module)


@pytest.mark.parametrize(
    "content",
    [
        5,
        {"config": {"model": MODEL}},
        {"config": None, "state_dict": {}},
        {"config": {"model": MODEL}, "state_dict": [1]},
        {"config": {"model": MODEL}, "state_dict": {1: 2, "network.head.weight": "x"}},
        {"config": {"model": MODEL | {"width": 2**62}}, "state_dict": {}},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_shape_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt") as caught:
        runs.load_network(tmp_path / "a.ckpt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "- !!python/object/apply:subprocess.Popen [['touch', '{marker}']]",
        "- !!python/name:os.system",
        "{{_target_: os.system, _args_: [touch {marker}]}}",
        "- a=b: [",
    ],
)
def test_yaml_in_a_run_folder_is_not_run(text, marker, tmp_path):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "results.json").write_text('{"test/psnr": 1.0}')
    (run / ".hydra" / "overrides.yaml").write_text(text.format(marker=marker))
    with pytest.raises(UserError, match=r"overrides\.yaml is not what Hydra writes") as caught:
        runs.load(run)
    assert "\n" not in str(caught.value)


def test_interpolations_in_a_run_folder_are_words(marker, tmp_path):
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / "results.json").write_text('{"test/psnr": 1.0}')
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text("- name='${oc.env:MARKER}'\n")
    assert runs.load(tmp_path).name.tolist() == ["${oc.env:MARKER}"]


@pytest.mark.parametrize(
    "target",
    ["os.system", "clearmark.runs.os.system", "torch.hub.load", "torch.save", "builtins.eval"],
)
def test_a_config_beside_a_checkpoint_names_no_code(target, marker, composed):
    config.register_resolvers()
    cfg = composed("train", "folder=run", "name=run", f"+callbacks.evil._target_={target}")
    with pytest.raises(UserError, match=r"callbacks\.evil\._target_=.* is no class of clearmark"):
        config.check(cfg)


def test_a_package_of_ones_own_can_be_trusted(composed, monkeypatch):
    config.register_resolvers()
    cfg = composed("train", "folder=run", "name=run", "+callbacks.mine._target_=fractions.Fraction")
    with pytest.raises(UserError, match="CLEARMARK_TRUST=my_package"):
        config.check(cfg)
    monkeypatch.setenv("CLEARMARK_TRUST", "fractions")
    config.check(cfg)


# Pictures


def noise(height=20, width=31, channels=3, dtype=np.uint8):
    high = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, high, (height, width, channels), dtype, True)


def bomb(side):
    """A PNG of a few kilobytes with ``side`` x ``side`` pixels."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000), 9)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.fixture
def saved(tmp_path):
    """Saves pictures of every kind, and returns their paths."""
    image = Image.fromarray(noise())
    exif = Image.Exif()
    exif[metadata.ORIENTATION] = 6
    image.save(tmp_path / "colour.png")
    smooth = Image.fromarray(cv2.GaussianBlur(noise(), (0, 0), 4))
    smooth.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "turned.tif", exif=exif)
    image.convert("1").save(tmp_path / "one bit.png")
    image.convert("1").save(tmp_path / "one bit.tif", compression="group4")
    image.convert("L").save(tmp_path / "grey.jpg")
    palette = image.convert("P")
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "palette.gif")
    palette.save(tmp_path / "palette alpha.png", transparency=palette.getpixel((0, 0)))
    palette.save(tmp_path / "palette alpha.gif", transparency=palette.getpixel((0, 0)))
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(noise(channels=2), "LA").save(tmp_path / "grey alpha.png")
    Image.fromarray(noise(channels=4), "RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(noise(channels=4), "RGBA").save(tmp_path / "alpha.webp", lossless=True)
    for name, channels in [
        ("deep.png", 3),
        ("deep.tif", 3),
        ("deep.ppm", 3),
        ("deep alpha.png", 4),
    ]:
        cv2.imwrite(str(tmp_path / name), noise(channels=channels, dtype=np.uint16))
    for name in ("deep grey.png", "deeper grey.pgm"):
        cv2.imwrite(str(tmp_path / name), noise(dtype=np.uint16)[..., 0])
    frames = [Image.fromarray(noise(channels=1)[..., 0] // n) for n in (1, 2, 3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "-dash.png").write_bytes((tmp_path / "colour.png").read_bytes())
    (tmp_path / "ünï 写真 \U0001f5bc.png").write_bytes((tmp_path / "colour.png").read_bytes())
    return tmp_path


def test_each_kind_that_is_written_holds_colours(tmp_path):
    """Or a result would be lost at the end: OpenCV says of .pgm that it writes it."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    colours = pictures.Picture(pixels)
    kinds = [kind for kind in sorted(pictures.KINDS) if pictures.writable(tmp_path / f"a{kind}")]
    assert {".png", ".jpg", ".ppm"} <= set(kinds)
    for kind in kinds:
        pictures.write(tmp_path / f"a{kind}", pictures.fitting(colours, kind))
        assert cv2.imread(str(tmp_path / f"a{kind}")).shape == pixels.shape, kind


@pytest.mark.parametrize("name", ["a.ppm", "a.pgm", "a.jp2"])
def test_sixteen_bits_are_read_of_kinds_that_pillow_takes_for_eight(name, tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (80, 90, 3), np.uint16)
    deep = deep if name != "a.pgm" else np.repeat(deep[..., :1], 3, 2)
    written = deep[..., ::-1] if name != "a.pgm" else deep[..., 0]
    lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000] if name == "a.jp2" else []
    cv2.imwrite(str(tmp_path / name), written, lossless)
    np.testing.assert_array_equal(pictures.read(tmp_path / name).pixels, deep)


def test_white_of_a_ppm_is_white(tmp_path):
    """Its head says how much that is, after a remark that may hold numbers, too."""
    values = np.array([[[0, 4095, 2048]]], ">u2")
    (tmp_path / "a.ppm").write_bytes(b"P6\n# 8 bits\n1 1\n4095\n" + values.tobytes())
    found = pictures.read(tmp_path / "a.ppm").pixels
    np.testing.assert_array_equal(found, [[[0, 65535, 32776]]])


def test_each_kind_is_read(saved):
    for path in saved.iterdir():
        picture = pictures.read(path, 1)
        shape = (31, 20) if path.name.startswith("turned") else (20, 31)
        assert picture.pixels.shape == (*shape, 3), path.name
        assert picture.pixels.dtype == (np.uint16 if path.name.startswith("deep") else np.uint8)
        assert (picture.alpha is not None) == ("alpha" in path.name), path.name
        assert bool(picture.losses) == (path.name in ("cmyk.jpg", "moving.gif")), path.name


def test_pixels_are_those_of_the_file(saved):
    rgb, rgba = noise(), noise(channels=4)
    deep = noise(channels=4, dtype=np.uint16)[..., [2, 1, 0, 3]]
    for name in ("colour.png", "-dash.png"):
        np.testing.assert_array_equal(pictures.read(saved / name).pixels, rgb)
    for name in ("turned.png", "turned.tif"):  # to be shown turned by a quarter, clockwise
        np.testing.assert_array_equal(pictures.read(saved / name).pixels, np.rot90(rgb, -1))
    turned = pictures.read(saved / "turned.jpg").pixels.astype(int)
    assert np.abs(turned - np.rot90(cv2.GaussianBlur(rgb, (0, 0), 4), -1)).mean() < 8
    clear = pictures.read(saved / "alpha.png")
    np.testing.assert_array_equal(np.dstack([clear.pixels, clear.alpha]), rgba)
    clear = pictures.read(saved / "deep alpha.png")
    np.testing.assert_array_equal(np.dstack([clear.pixels, clear.alpha]), deep)


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_is_that_of_pillow(turn):
    from PIL import ImageOps

    image = Image.fromarray(noise())
    image.getexif()[metadata.ORIENTATION] = turn
    upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(pictures._upright(noise(), turn), upright)


@pytest.mark.parametrize(
    ("suffix", "dtype", "channels"),
    [
        (".png", np.uint16, 4),
        (".png", np.uint16, 3),
        (".tif", np.uint16, 4),
        (".png", np.uint8, 4),
        (".tif", np.uint8, 4),
        (".bmp", np.uint8, 3),
    ],
)
def test_depth_and_transparency_come_back(suffix, dtype, channels, tmp_path):
    pixels = noise(channels=channels, dtype=dtype)
    alpha = pixels[..., 3] if channels == 4 else None
    picture = pictures.fitting(pictures.Picture(pixels[..., :3], alpha), suffix)
    assert not picture.losses
    pictures.write(tmp_path / f"a{suffix}", picture)
    back = pictures.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.pixels, pixels[..., :3])
    np.testing.assert_array_equal(back.alpha, alpha)


def test_what_the_output_cannot_hold_is_said():
    deep = noise(channels=4, dtype=np.uint16)
    picture = pictures.fitting(pictures.Picture(deep[..., :3], deep[..., 3]), ".jpg")
    assert picture.alpha is None
    assert picture.pixels.dtype == np.uint8
    assert np.abs(picture.pixels - deep[..., :3] / 257).max() <= 0.5
    assert [loss.split(";")[0] for loss in picture.losses] == [
        ".jpg has no transparency",
        ".jpg has 8 bits a channel and not 16",
    ]


def test_sixteen_bits_go_through_the_network():
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, marked):
            from clearmark.models.base import Restoration

            return Restoration(marked, None)

    every = np.arange(65536, dtype=np.uint16).repeat(3).reshape(256, 256, 3)
    for whole in (10**6, 0):
        np.testing.assert_array_equal(restore(Same(), every, whole, 128, 64)[0], every)


@pytest.fixture
def bad(saved):
    """What is no picture, or none that is opened; name to the words of the reason."""
    colour = (saved / "colour.png").read_bytes()
    (saved / "bomb.png").write_bytes(bomb(30_000))
    (saved / "empty.png").touch()
    (saved / "text.png").write_text("no picture")
    (saved / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    (saved / "half.png").write_bytes(colour[: len(colour) // 2])
    (saved / "half.jpg").write_bytes((saved / "turned.jpg").read_bytes()[:-200])
    (saved / "deep half.png").write_bytes((saved / "deep.png").read_bytes()[:-200])
    (saved / "lies.png").write_bytes(bomb(100))  # too little data for its pixels
    Image.fromarray(np.ones((4, 4), np.float32)).save(saved / "float.tif")
    (saved / "loop.png").symlink_to("loop.png")
    (saved / "nowhere.jpg").symlink_to(saved / "not there.jpg")
    return {
        "bomb.png": "900 megapixels are more than megapixels=200",
        "empty.png": "empty file",
        "text.png": "not a picture",
        "script.png": "not a picture",
        "half.png": "broken",
        "half.jpg": "broken",
        "deep half.png": "broken",
        "lies.png": "broken",
        "float.tif": "no defined range",
        "loop.png": "Too many levels of symbolic links",
        "nowhere.jpg": "No such file",
    }


@pytest.fixture
def run(composed, run_folder):
    def run(source, target, *more):
        typed = [f"ckpt={run_folder}", f"input={source}", f"output={target}", "device=cpu", *more]
        return predict.predict(composed("predict", *cli.quote_paths(typed, predict.PATHS)))

    return run


def test_a_folder_of_everything(run, saved, bad, tmp_path_factory, capsys):
    out = tmp_path_factory.mktemp("out")
    (saved / "folder.jpg").mkdir()
    (saved / "folder.jpg" / "inside.png").write_bytes((saved / "colour.png").read_bytes())
    (saved / "round").symlink_to(saved)
    good = {p.name for p in saved.iterdir() if p.is_file()} - bad.keys()
    skipped = {path.name: reason for path, reason in run(saved, out).items()}
    assert skipped.keys() == bad.keys()
    for name, words in bad.items():
        assert words in skipped[name], skipped
        assert "\n" not in skipped[name]
    named = {"deeper grey.pgm": "deeper grey.png"}
    assert {p.name for p in out.iterdir() if p.is_file()} == {named.get(n, n) for n in good}
    assert (out / "folder.jpg" / "inside.png").is_file()
    for name in ("deep alpha.png", "deep.tif", "alpha.webp", "grey alpha.png"):
        before, after = (pictures.read(folder / name) for folder in (saved, out))
        assert after.pixels.dtype == before.pixels.dtype
        np.testing.assert_array_equal(after.alpha, before.alpha)
    said = capsys.readouterr().out
    assert "moving.gif: only the first of its 3 frames" in said
    assert "palette alpha.gif: .gif has no transparency" in said


@pytest.mark.parametrize("name", ["-dash.png", "ünï 写真 \U0001f5bc.png", "deep alpha.png"])
def test_one_file_of_any_name(name, run, saved, tmp_path):
    assert run(saved / name, tmp_path / "out" / name) == {}
    assert pictures.read(tmp_path / "out" / name).pixels.shape == (20, 31, 3)


def test_the_limit_can_be_moved(run, saved, tmp_path):
    small = {"megapixels=0.0001"}
    assert "megapixels=0.0001" in run(saved / "colour.png", tmp_path / "a.png", *small).popitem()[1]
    assert not run(saved / "colour.png", tmp_path / "a.png", "megapixels=null")


def test_a_bomb_is_refused_unread(tmp_path):
    import resource

    (tmp_path / "bomb.png").write_bytes(bomb(60_000))  # 11 GB unpacked
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(pictures.PictureError, match="3600 megapixels"):
        pictures.read(tmp_path / "bomb.png", 200)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


def test_an_unreadable_file(run, saved, tmp_path):
    (saved / "colour.png").chmod(0)
    if os.access(saved / "colour.png", os.R_OK):
        pytest.skip("this user may read everything")
    [reason] = run(saved / "colour.png", tmp_path / "out.png").values()
    assert reason == "cannot be read: Permission denied"


def test_a_name_does_nothing_to_the_terminal():
    assert predict._shown(ROOT / "a\x1b[2Jb\nc\udcff é") == f"{ROOT}/a\\x1b[2Jb\\nc\\udcff é"


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_bytes_are_a_picture_or_one_line(data, saved):
    """Whole files with a few bytes changed get further into the decoders than noise does."""
    kinds = sorted(p for p in saved.iterdir() if p.name != "fuzzed")
    content = bytearray(data.draw(st.sampled_from(kinds)).read_bytes())
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] or content
    (saved / "fuzzed").write_bytes(content)
    try:
        picture = pictures.read(saved / "fuzzed", 1)
    except pictures.PictureError as error:
        said = str(error)
    else:
        said = "a picture"
        assert picture.pixels.ndim == 3
        assert picture.pixels.size <= 3e6
    assert len(said.splitlines()) == 1
