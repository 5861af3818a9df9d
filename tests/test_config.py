"""What configs may say: checks that name the key, and no code from a file of somebody else's."""

import contextlib
import pickle
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from clearmark import cli, config, runs
from clearmark.errors import UserError

CONF = str(Path(__file__).parents[1] / "conf")
UNET = {
    "_target_": "clearmark.models.UNet",
    "activation": {"_target_": "torch.nn.ReLU", "_partial_": True},
    "widths": [4, 8],
}


def composed(*overrides):
    config.register_resolvers()
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", cli.quote_digits([*overrides, "folder=run", "name=run"]))


def test_the_default_passes():
    config.check(composed())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+data.batchsize=4"], "data.batchsize=4: .* did you mean batch_size?"),
        (["+model.width=4"], "model.width=4: .*did you mean widths?"),
        (["+optimizer.betta=1"], "optimizer.betta=1: torch.optim.Adam has no such key"),
        (["+trainer.max_epoch=3"], "trainer.max_epoch=3: .*did you mean max_epochs?"),
        (["+callbacks.panels.picture=3"], "callbacks.panels.picture=3: .*did you mean pictures?"),
        (["watermark=text", "+watermark.opacty=1"], "watermark.opacty=1: .*did you mean opacity?"),
        (["data.batch_size=abc"], "data.batch_size=abc is not allowed; give a whole number, 1"),
        (["data.batch_size=2.5"], "data.batch_size=2.5 is not allowed; give a whole number"),
        (["data.batch_size=true"], "data.batch_size=true is not allowed; give a whole number"),
        (["data.batch_size=null"], "data.batch_size=null is not allowed; give a whole number"),
        (
            ["data.unmarked=no_number"],
            "data.unmarked=no_number is not allowed; give a number, 0 to",
        ),
        (["data.unmarked=nan"], "data.unmarked=nan is not allowed; give a number, 0 to 1"),
        (
            ["data.samples_per_epoch=null"],
            "data.samples_per_epoch=null is no value; give it as int",
        ),
        (
            ["model.blocks=true"],
            "model.blocks=true is not allowed; give a whole number",
        ),
        (["model.mask=maybe"], "model.mask=maybe is str; give it as bool"),
        (
            ["activation._target_=torch.nn.Rellu"],
            "model.activation._target_=torch.nn.Rellu does not",
        ),
        (["data=folder"], "data.root is not set; add data.root=..."),
        (["objective=test/pnsr"], "objective=test/pnsr is no test figure; use objective=test/psnr"),
        (["trainer=cpu", "precision=16"], "precision=16 needs a GPU.*precision=bf16"),
        (["trainer=mps", "precision=64"], "precision=64 does not exist on trainer=mps"),
        (
            ["optimizer=gd", "data.batch_size=7", "data.samples_per_epoch=4096"],
            "4096 is no multiple of data.batch_size=7",
        ),
        (["model.mask=false"], r"loss.terms.mask_bce.loss .*model.mask=false.*loss=charbonnier"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        config.check(composed(*overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.on_mark=1"],  # an int where a float is meant
        ["optimizer=gd", "data.batch_size=32", "data.samples_per_epoch=64"],
        ["model.mask=false", "loss=mae"],
        ["model.mask=false", "loss.terms.mask_bce.weight=0", "loss.terms.mask_dice.weight=0"],
        ["trainer=cpu", "precision=64"],
        ["trainer=cpu", "precision=bf16"],
        ["data=folder", "data.root=photos"],
        ["trainer=ddp", "trainer.devices=4"],
    ],
)
def test_what_can_work_passes(overrides):
    config.check(composed(*overrides))


def test_half_precision_on_auto_needs_a_gpu(monkeypatch):
    cfg = composed("precision=16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="precision=16 needs a GPU"):
        config.check(cfg)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config.check(cfg)


def test_ceil_div():
    config.register_resolvers()
    found = OmegaConf.create({"a": "${ceil_div:7,2}", "b": "${ceil_div:8,2}"})
    assert (found.a, found.b) == (4, 4)
    assert OmegaConf.create({"a": "${ceil_div:${b},2}", "b": None}).a is None


@pytest.fixture
def canary(tmp_path):
    """A file that code would leave, and a check that none did."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "code from the file was run"


def evil(path):
    """Configs that would write a file. Hydra itself refuses os.system, but not all there is."""
    call = {"_target_": "logging.FileHandler", "_args_": [str(path)]}
    shell = {"_target_": "os.system", "_args_": [f"touch {path}"]}
    save = {"_args_": [1, str(path)]}
    hidden = "${oc.create:'{_target_: logging.FileHandler, _args_: [\"" + str(path) + "\"]}'}"
    return {
        "at the top": call,
        "a shell": UNET | {"activation": shell},
        "nested": UNET | {"activation": call},
        "partial": UNET | {"activation": call | {"_partial_": True}},
        "in a list": UNET | {"widths": [4, call]},
        "in a tuple": UNET | {"widths": (4, call)},
        "in the arguments": UNET | {"_args_": [call]},
        "deep": UNET | {"activation": {"_target_": "torch.nn.Sequential", "_args_": [[call]]}},
        "behind our name": UNET | {"activation": save | {"_target_": "clearmark.runs.torch.save"}},
        "behind a name of torch": UNET
        | {"activation": save | {"_target_": "torch.nn.modules.module.torch.save"}},
        "behind our networks": UNET
        | {"activation": save | {"_target_": "clearmark.models.base.torch.save"}},
        "interpolated": UNET | {"activation": hidden},
        "interpolated name": UNET | {"activation": call | {"_target_": "${oc.decode:os.system}"}},
        "a function": UNET | {"activation": {"_target_": "torch.nn.init.zeros_"}},
        "no mapping": [call],
        "a word": "os.system",
        "nothing": None,
        "missing": {},
    }


@pytest.mark.parametrize("kind", evil(""))
def test_a_checkpoint_cannot_name_code(kind, canary, tmp_path):
    path = tmp_path / "evil.ckpt"
    torch.save({"config": {"model": evil(canary)[kind]}, "state_dict": {}}, path)
    with pytest.raises(
        UserError, match=r"evil\.ckpt is not loaded: .*(config (names|holds)|no _target_)"
    ):
        runs.load_network(path)


def test_a_checkpoint_cannot_import(canary, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    planted = f"open({str(canary)!r}, 'w')\nfrom clearmark.models import UNet as Net\n"
    (tmp_path / "planted.py").write_text(planted)
    saved(tmp_path / "a.ckpt", config={"model": UNET | {"_target_": "planted.Net"}})
    with pytest.raises(UserError, match=r"names planted\.Net"):
        runs.load_network(tmp_path / "a.ckpt")


@pytest.mark.parametrize("kind", ["nested", "in a tuple", "behind our networks", "interpolated"])
def test_those_configs_would_do_harm(kind, tmp_path):
    """Without the check, Hydra does what they say; or the test above would prove nothing."""
    with contextlib.suppress(InstantiationException):
        config.create(evil(tmp_path / "ran")[kind])
    assert (tmp_path / "ran").exists()


class Code:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused(zipped, canary, tmp_path):
    path, content = tmp_path / "evil.ckpt", {"config": {}, "state_dict": {}, "x": Code(canary)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        runs.load_network(path)


def saved(path, **changes):
    network = config.build_network(UNET)
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"config": {"model": UNET}, "state_dict": weights} | changes, path)
    return network


def test_a_checkpoint_of_ours_is_read(tmp_path):
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    network = saved(path)
    for ckpt in (path, str(path), tmp_path):
        found, kept = runs.load_network(ckpt)
        assert kept == {"model": UNET}
        assert not found.training
        for name, value in network.state_dict().items():
            assert torch.equal(found.state_dict()[name], value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(share, tmp_path):
    path = tmp_path / "a.ckpt"
    saved(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"a\.ckpt cannot be read as a checkpoint") as caught:
        runs.load_network(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"model": UNET | {"widths": [4, 4]}}}, "does not fit its network"),
        ({"config": {"model": UNET | {"depth": 3}}}, "is not loaded"),
        ({"config": {"model": UNET | {"widths": "many"}}}, "is not loaded"),
        ({"config": {}}, "is not loaded"),
        ({"config": None}, "is not loaded"),
        ({"state_dict": {}}, "does not fit its network"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(changes, message, tmp_path):
    saved(tmp_path / "a.ckpt", **changes)
    with pytest.raises(UserError, match=message) as caught:
        runs.load_network(tmp_path / "a.ckpt")
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist; give a run folder"):
        runs.load_network(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no checkpoints/best\.ckpt"):
        runs.load_network(tmp_path)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("precision=32", "precision='32'"),
        ("precision=16,32,bf16", "precision='16','32',bf16"),
        ("precision='64'", "precision='64'"),
        ("precision=bf16", "precision=bf16"),
        ("precision=17", "precision='17'"),
        ("seed=32", "seed=32"),
        ("trainer.precision=32", "trainer.precision=32"),
        ("-m", "-m"),
    ],
)
def test_digits_that_name_a_choice_are_quoted(typed, meant):
    assert cli.quote_digits([typed]) == [meant]


def leave(error, capsys):
    """Exit status and stderr of an entry point that meets an error."""

    @cli.entry
    def main(cfg):
        raise error

    with pytest.raises(SystemExit) as caught:
        main(None)
    return caught.value.code, capsys.readouterr().err


def test_errors_of_the_user_are_one_line_and_status_2(capsys):
    assert leave(UserError("a=1 is wrong"), capsys) == (2, "error: a=1 is wrong\n")
    nested = InstantiationException("many\nlines")
    nested.__cause__ = UserError("b=2 is wrong")
    assert leave(nested, capsys) == (2, "error: b=2 is wrong\n")
    lacking = FileNotFoundError(2, "No such file or directory", "x/y")
    assert leave(lacking, capsys) == (2, "error: x/y: No such file or directory\n")


def test_stopping_is_one_line_and_status_130(capsys):
    status, line = leave(KeyboardInterrupt("run/last.ckpt"), capsys)
    assert status == 130
    assert line.strip() == "stopped; the network so far is in run/last.ckpt"
    assert leave(KeyboardInterrupt(), capsys)[1].strip() == "stopped; nothing was saved"


def test_errors_of_the_program_keep_their_traceback():
    @cli.entry
    def main(cfg):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main(None)


def test_a_result_passes_through():
    assert cli.entry(lambda cfg: 1.5)(None) == 1.5
    assert sys.argv
