"""Released models: what is stored, what loads them, what a run becomes one by, and ``init=``."""

import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tiny
import torch
from conftest import ROOT
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import nn

import benchmark
import evaluate
import export
from clearmark import cli, disk, initial, released, runs
from clearmark.config import build_network
from clearmark.errors import UserError

MODEL = {
    "_target_": "clearmark.models.UNet",
    "activation": {"_target_": "torch.nn.PReLU", "_partial_": True},
    "widths": [4, 8],
}


@pytest.fixture
def network():
    """With weights and running statistics that 16 bits would not hold."""
    torch.manual_seed(0)
    made = build_network(MODEL).eval()
    with torch.no_grad():
        for value in (*made.parameters(), *made.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 1 / 3)
        made.context.layers[0].weight[0, 0] = 1e6
    return made


@pytest.fixture
def model(network, tmp_path):
    """The folder of a released model."""
    released.write(tmp_path / "model", network, {"model": MODEL}, "# A card\n")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tiny.photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run's folder as training leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(folder, photos)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("- model=unet\n- 'data.root=my photos'\n")
    return folder


def train(folder, photos, *more):
    cfg = tiny.config(*tiny.overrides(photos), f"folder={folder}", *more)
    return tiny.entry_point("train").train(cfg)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# The folder


def test_kernels_are_stored_in_half_and_the_rest_exactly(network, model):
    assert sorted(content(model)) == ["README.md", "config.json", "model.safetensors"]
    stored, buffers = load_file(model / "model.safetensors"), dict(network.named_buffers())
    kinds = set()
    for name, value in network.state_dict().items():
        if name == "context.layers.0.weight":  # 1e6 is more than 16 bits can hold
            assert torch.equal(stored[name], value)
        elif name not in buffers and value.ndim > 1:
            assert torch.equal(stored[name], value.half())
            kinds.add("kernel")
        else:
            assert stored[name].dtype == value.dtype
            assert torch.equal(stored[name], value)
            kinds.add("running" if name.endswith("running_var") else "other")
    assert kinds == {"kernel", "running", "other"}


def test_a_model_comes_back(network, model):
    found, config = runs.load_network(model)
    assert config == {"model": MODEL}
    assert not found.training
    before, after = network.state_dict(), found.state_dict()
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert value.dtype == before[name].dtype
        torch.testing.assert_close(value, before[name], rtol=2**-11, atol=0)


def test_channels_last_is_stored_as_any_other(network, model, tmp_path):
    network.to(memory_format=torch.channels_last)
    released.write(tmp_path / "again", network, {"model": MODEL}, "# A card\n")
    assert content(tmp_path / "again") == content(model)


def test_others_may_read_it(model):
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in model.iterdir()} == {0o666 & ~umask}
    assert model.stat().st_mode & 0o777 == 0o777 & ~umask


def test_it_is_written_whole_or_not_at_all(network, model, tmp_path):
    before = content(model)
    for folder in (model, tmp_path / "new"):
        with pytest.raises(TypeError):  # halfway: a config that JSON does not know
            released.write(folder, network, {"model": {1, 2}}, "# Another\n")
    assert content(model) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]
    released.write(model, network, {"model": MODEL}, "# Another\n")
    assert content(model) == before | {"README.md": b"# Another\n"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_no_folder_of_other_things_is_replaced(network, model, tmp_path):
    (model / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"holds diary\.txt, which is of no released model"):
        released.write(model, network, {"model": MODEL}, "")
    with pytest.raises(UserError, match="is a file"):
        released.write(tmp_path / "file", network, {"model": MODEL}, "")
    assert (model / "diary.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_an_interrupted_folder_leaves_the_old_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    writing = disk.whole_folder(tmp_path / "a")
    (writing.__enter__() / "half").touch()
    assert writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is False
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "old"]


# What loads it


def test_a_folder_a_file_and_a_name_are_one(model, tmp_path, monkeypatch):
    monkeypatch.setattr(released, "EMBEDDED", tmp_path)
    monkeypatch.chdir(tmp_path / "model")
    assert released.names() == ["model"]
    for ckpt in (model, model / "model.safetensors", "model", "."):
        assert os.path.samefile(runs.checkpoint_of(ckpt), model / "model.safetensors")


def test_a_home_is_found(model, monkeypatch):
    monkeypatch.setenv("HOME", str(model.parent))
    assert runs.checkpoint_of(f"~/{model.name}") == model / "model.safetensors"


def test_a_path_goes_before_a_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.rename("unet")
    assert os.path.samefile(runs.checkpoint_of("unet"), tmp_path / "unet" / "model.safetensors")


def test_a_run_goes_before_weights_beside_it(model, run_folder):
    (model / "checkpoints").symlink_to(run_folder / "checkpoints")
    assert runs.checkpoint_of(model).name == "best.ckpt"


WRONG = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "empty config": lambda folder: (folder / "config.json").write_text(""),
    "no model": lambda folder: (folder / "config.json").write_text("{}"),
    "a list": lambda folder: (folder / "config.json").write_text('["model"]'),
    "not UTF-8": lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{"),
    "deep": lambda folder: (folder / "config.json").write_text("[" * 10**5),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "empty weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "half of the weights": lambda folder: os.truncate(folder / "model.safetensors", 3000),
    "other widths": lambda folder: change(folder, widths=[4, 16]),
    "another network": lambda folder: change(folder, _target_="clearmark.models.ResNet"),
    "an unknown network": lambda folder: change(folder, _target_="clearmark.models.Nett"),
}
SAID = {
    "no config": r"ckpt=.*model\.safetensors: .*config\.json is missing",
    "empty config": r"config\.json cannot be read",
    "no model": 'has no "model"',
    "a list": 'has no "model"',
    "not UTF-8": r"config\.json cannot be read",
    "deep": r"config\.json cannot be read",
    "no weights": r"ckpt=.*model holds no checkpoints/best\.ckpt and no model\.safetensors",
    "empty weights": r"model\.safetensors cannot be read as weights",
    "half of the weights": r"model\.safetensors cannot be read as weights",
    "other widths": r"ckpt=.* does not fit its network: .*size mismatch",
    "another network": r"ckpt=.* is not loaded: .*widths",
    "an unknown network": "a network is built of the classes in",
}


def change(folder, **more):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model": config["model"] | more}))


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_in_one_line(wrong, model):
    WRONG[wrong](model)
    with pytest.raises(UserError, match=SAID[wrong]) as caught:
        runs.load_network(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unett", "ckpt=unett does not exist; did you mean ckpt=unet? Give a run folder"),
        ("U-Net", "did you mean ckpt=unet?"),
        ("outputs/x", "outputs/x does not exist; give a run folder, .* embedded one (.*unet.*)"),
        ("../models/unet", "does not exist; give a run folder"),
    ],
)
def test_an_unknown_name(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.sub(r"([?=])", r"\\\1", said)):
        runs.load_network(name)


# What comes with the package


@pytest.mark.parametrize("name", released.names())
def test_an_embedded_model_restores(name):
    network, config = runs.load_network(name)
    folder = released.EMBEDDED / name
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"} | {
        "README.md"
    }
    assert sum(value.numel() for value in network.parameters()) < 5e6
    with torch.inference_mode():
        restored = network(torch.rand(1, 3, 53, 70)).image
    assert restored.shape == (1, 3, 53, 70)
    assert restored.isfinite().all()
    card = (folder / "README.md").read_text("utf-8")
    parts = ("Training", "Figures", "Data and licence", "Limits", "Responsible use")
    assert re.findall(r"^## (.*)", card, re.MULTILINE) == list(parts)
    assert "python src/train.py" in card
    assert "missing" not in card, "a card that nobody has finished"
    assert "not stated" not in card
    assert config["model"]["_target_"] in card


def test_the_best_is_there_and_all_are_small():
    assert released.BEST in released.names()
    files = [path for path in released.EMBEDDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15e6


def test_the_unet_takes_marks_off():
    """Its gain is real: measured here on a few of the pictures that its card is about."""
    config = tiny.config("data.cache_mb=0", "data.crop=${data.size}").data
    from clearmark.config import create
    from clearmark.data import as_tensors
    from clearmark.metrics import psnr

    dataset, network = create(config).dataset("test"), runs.load_network("unet")[0]
    gains = []
    for index in range(8):
        sample = {k: torch.from_numpy(v)[None] for k, v in dataset[(0, index)].items()}
        batch = as_tensors(sample, torch.float32)
        with torch.inference_mode():
            after = network(batch["marked"]).image
        gains.append(float(psnr(after, batch["clean"]) - psnr(batch["marked"], batch["clean"])))
    assert np.mean(gains) > 1.5


@pytest.mark.slow
def test_a_photo_needs_no_other_word(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    image = cv2.resize(image, (80, 90), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    (tmp_path / "unet").mkdir()  # a folder of that name is not what is meant
    command = [sys.executable, str(ROOT / "src" / "predict.py"), "input=photo.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photo.png", "photo_restored.png", "unet"]
    network = runs.load_network(released.EMBEDDED / released.BEST)[0]
    with torch.inference_mode():
        wanted = network(
            torch.from_numpy(image[None, ..., ::-1] / np.float32(255)).permute(0, 3, 1, 2)
        )
    wanted = (wanted.image[0].permute(1, 2, 0).clamp(0, 1) * 255).numpy()[..., ::-1]
    found = cv2.imread(str(tmp_path / "photo_restored.png")).astype(float)
    assert np.abs(found - wanted).max() <= 1


def test_evaluation_and_benchmark_take_it(model, composed, tmp_path):
    small = [*("trainer=cpu", "data.size=64", "data.short_side=64", "data.test_samples=2")]
    small += ["~callbacks.progress", "+callbacks.panels.pictures=1", f"folder={tmp_path / 'out'}"]
    for ckpt in (model, "unet"):
        figures = evaluate.evaluate(composed("evaluate", f"ckpt='{ckpt}'", *small))
        network = benchmark.network_of(composed("benchmark", f"ckpt='{ckpt}'"))
        assert figures["parameters"] == sum(value.numel() for value in network.parameters())


# Export


@pytest.fixture
def exported(composed):
    def run(ckpt, output, *more):
        typed = cli.quote_paths([f"ckpt={ckpt}", f"output={output}"], export.PATHS)
        return export.export(composed("export", *typed, "samples=2", "data.size=64", *more))

    return run


def test_a_run_becomes_a_released_model(exported, trained, tmp_path, capsys):
    difference = exported(trained, tmp_path / "my model").largest
    said = capsys.readouterr().out
    (network, config), (ours, own) = map(runs.load_network, (tmp_path / "my model", trained))
    assert config == own
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, ours.state_dict()[name], rtol=2**-10, atol=1e-7)
    assert difference < 1e-3
    assert f"{difference:.2g} of 1" in said
    size = sum(map(len, content(tmp_path / "my model").values()))
    assert f"{size / 1e6:.2f} MB" in said


def test_the_card_tells_of_the_run(exported, trained, tmp_path):
    exported(trained, tmp_path / "my model")
    card = (tmp_path / "my model" / "README.md").read_text("utf-8")
    assert "python src/predict.py ckpt='my model' input=photo.jpg" in card
    figures = json.loads((trained / "results.json").read_text())
    about = json.loads((trained / "environment.json").read_text())
    assert "python src/train.py model=unet 'data.root=my photos'" in card
    psnr = [f"{figures[f'test/psnr{of}']:.2f}" for of in ("", "_input")]
    assert f"| PSNR (dB) | {psnr[0]} | {psnr[1]} |" in card
    assert f"| mask F1 | {figures['test/mask_f1']:.3f} | |" in card
    assert f"torch {torch.__version__}" in card
    assert about["machine"] in card
    assert "| samples seen | 4 |" in card
    assert "Text (opacity 0.3 to 0.7), Logo (opacity 0.3 to 0.7), Tiled" in card
    assert "of the folder `photos`" in card
    assert "missing" not in card


def test_the_card_of_a_network_for_one_mark(exported, trained, tmp_path):
    """It saw that mark, and no other; and its words are those that were typed."""
    run = shutil.copytree(trained, tmp_path / "run")
    cfg = OmegaConf.load(run / "config.yaml")
    cfg.watermark.mark, cfg.data.root = "logo.png", None
    OmegaConf.save(cfg, run / "config.yaml")
    words = ["experiment=my_mark", "mark='my logo.png'", "init='unet'", "precision='32'"]
    OmegaConf.save(OmegaConf.create(words), run / ".hydra" / "overrides.yaml")
    exported(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "experiment=my_mark 'mark=my logo.png' init=unet precision=32\n" in card
    assert "marks that training never saw" not in card
    assert "photos that training never saw, under its one mark" in card
    assert "fonts" not in card


def test_the_card_says_what_is_missing(exported, run_folder, trained, tmp_path):
    exported(run_folder, tmp_path / "bare")
    card = (tmp_path / "bare" / "README.md").read_text("utf-8")
    assert "| PSNR (dB) | missing | missing |" in card
    assert "| mask F1 | missing | |" in card
    assert card.count("missing: the run's folder does not tell") == 9
    exported(trained / "checkpoints" / "last.ckpt", tmp_path / "last")  # the test is of the best
    card = (tmp_path / "last" / "README.md").read_text("utf-8")
    assert "| weights | last.ckpt |" in card
    assert "| PSNR (dB) | missing | missing |" in card


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "!!python/object/apply:os.system ['touch ran']"),
        ("config.yaml", "a: ["),
        ("results.json", "{"),
        ("environment.json", "[" * 10**5),
        ("results.json", '{"wall_seconds": "long"}'),
        ("environment.json", '{"seeds": [1]}'),
        ("config.yaml", "{data: photos, degradation: none}"),
    ],
)
def test_a_damaged_run_is_refused(name, text, exported, run_folder, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.ckpt").symlink_to(run_folder / "checkpoints" / "best.ckpt")
    (run / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}|run holds notes that no training") as caught:
        exported(run, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_nothing_is_replaced_unasked(exported, model, run_folder, tmp_path):
    before = content(model)
    with pytest.raises(UserError, match="overwrite=true"):
        exported(run_folder, model)
    assert content(model) == before
    exported(run_folder, model, "overwrite=true")
    assert content(model)["config.json"] != before["config.json"]


# Training that starts from one


def typed(monkeypatch, *words):
    """As if these words had been typed."""
    hydra = SimpleNamespace(overrides=SimpleNamespace(task=list(words)))
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)


def test_init_brings_its_network(model, monkeypatch):
    typed(monkeypatch, f"init={model}")
    cfg = initial.adopt(tiny.config(f"init='{model}'"))
    assert cfg.model == MODEL
    assert cfg.activation == MODEL["activation"]
    network = build_network(MODEL)
    initial.load(network, cfg)
    for name, value in runs.load_network(model)[0].state_dict().items():
        assert torch.equal(network.state_dict()[name], value)


def test_the_same_network_may_be_typed(monkeypatch):
    typed(monkeypatch, "init=unet", "model=unet", "activation=relu")
    cfg = initial.adopt(tiny.config("init=unet", "model=unet", "activation=relu"))
    found = runs.load_network(released.EMBEDDED / "unet")[1]["model"]
    assert cfg.model == found  # of other widths than those of model=unet


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=resnet"], r"init=unet has model._target_=clearmark.models.UNet, and model=resnet"),
        (["model=resnet"], r"asks for model._target_=clearmark.models.ResNet; leave one of them"),
        (["model.widths=[4,8]"], r"init=unet has model.widths=\[48, 72, 96\], and model.widths="),
        (["activation=gelu"], r"torch.nn.ReLU.*activation=gelu asks for .*torch.nn.GELU"),
        (["model.mask=false"], r"model.mask=True.*model.mask=False"),
    ],
)
def test_another_network_is_refused(words, said, monkeypatch):
    typed(monkeypatch, "init=unet", *words)
    with pytest.raises(UserError, match=said) as caught:
        initial.adopt(tiny.config("init=unet", *words))
    assert "\n" not in str(caught.value)


def test_a_run_that_goes_on_keeps_its_network(model, monkeypatch, tmp_path):
    """What init named may be gone by then; what another run left is not trusted."""
    gone = tmp_path / "gone"
    before = {"init": str(gone), "model": MODEL}
    typed(monkeypatch, "resume=auto")
    assert initial.adopt(tiny.config(f"init='{gone}'"), before).model == MODEL
    evil = before | {"model": {"_target_": "os.system", "command": "true"}}
    with pytest.raises(UserError, match=r"os\.system"):
        initial.adopt(tiny.config(f"init='{gone}'"), evil)
    with pytest.raises(UserError, match=r"init=.*gone does not exist"):
        initial.adopt(tiny.config(f"init='{gone}'"), before | {"init": "unet"})


def test_init_and_ckpt_exclude_each_other(model):
    from clearmark import resume

    with pytest.raises(UserError, match=r"init=unet and ckpt=.* exclude each other"):
        resume.choose(tiny.config("init=unet", f"ckpt='{model}'"))


def test_other_weights_than_the_configs_are_refused(model):
    with pytest.raises(UserError, match="is another network than the run's"):
        initial.load(nn.Linear(2, 2), tiny.config(f"init='{model}'"))


def test_training_starts_from_the_weights(model, photos, tmp_path):
    """Steps too small to move a weight: what the run ends with is what it was given."""
    train(tmp_path, photos, f"init='{model}'", "optimizer=sgd", "optimizer.lr=1e-30")
    assert (tmp_path / "results.json").is_file()
    given = runs.load_network(model)[0]
    ended, config = runs.load_network(tmp_path / "checkpoints" / "last.ckpt")
    assert config["model"] == MODEL
    for name, value in ended.named_parameters():
        assert torch.equal(value, given.state_dict()[name]), name
    statistics = [name for name, _ in ended.named_buffers() if name.endswith("running_mean")]
    moved = [not torch.equal(ended.state_dict()[n], given.state_dict()[n]) for n in statistics]
    assert all(moved), "two batches have been through it"
