"""Networks run by TensorFlow and OpenCV give what PyTorch gives, for pictures of any size."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tiny
import torch
from conftest import ROOT
from test_export import Complex, made, same
from torch import nn

import export
from clearmark import cli
from clearmark.config import create
from clearmark.errors import UserError
from clearmark.export import FORMATS, caffe, graph, keras, litert

NAMES = {"keras": "net.keras", "tensorflow": "saved", "litert": "net.tflite", "caffe": "net"}


def write(name, network, folder, config=None):
    output = folder / NAMES[name]
    FORMATS[name].write(output, network, config or {"model": {}}, folder)
    return output


class Activations(nn.Module):
    """The sum of every activation of the config, on maps of several channels."""

    def __init__(self):
        super().__init__()
        configs = (tiny.config(f"activation={name}") for name in tiny.choices("activation"))
        self.layers = nn.ModuleList(create(cfg.activation)() for cfg in configs)

    def forward(self, marked):
        values = 6 * marked - 3
        total = values
        for number, layer in enumerate(self.layers):
            total = total + layer(values) * (1 + number / 7)  # so that none stands in for another
        return graph.Restored(total / 100 + 0.3)


class Reflected(nn.Module):
    """Grows the picture in a way that no network here does."""

    def forward(self, marked):
        return graph.Restored(nn.functional.pad(marked, (0, 2, 0, 2), mode="reflect")[..., 2:, 2:])


@pytest.mark.parametrize("model", ["conv_fc", "unet"])
def test_opencv(model, tmp_path):
    network = made(model)
    output = write("caffe", network, tmp_path)
    same(network, caffe.load(output))
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet", "unblend"])
def test_opencv_runs_every_network(model, tmp_path):
    network = made(model)
    same(network, caffe.load(write("caffe", network, tmp_path)))


@pytest.mark.slow
def test_opencv_runs_every_activation(tmp_path):
    network = Activations().eval()
    same(network, caffe.load(write("caffe", network, tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("model", tiny.choices("model"))
def test_keras_and_litert_run_every_network(model, tmp_path):
    network = made(model)
    same(network, keras.load(write("keras", network, tmp_path)))
    same(network, litert.load(write("litert", network, tmp_path), 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras", "tensorflow", "litert"])
def test_tensorflow_runs_every_activation(name, tmp_path):
    network = Activations().eval()
    same(network, FORMATS[name].load(write(name, network, tmp_path)))


ALONE = """
import json, os, sys
sys.modules["torch"] = sys.modules["clearmark"] = None
os.environ["KERAS_BACKEND"] = "tensorflow"
import cv2, keras, numpy as np, tensorflow as tf

given = np.load("given.npz")
marked = given["marked"]
last = marked.transpose(0, 2, 3, 1)

model = keras.saving.load_model("net.keras", safe_mode=True)
saved = tf.saved_model.load("saved").signatures["serving_default"]
lite = tf.lite.Interpreter("net.tflite").get_signature_runner()
answers = [model(last), saved(marked=tf.constant(last)), lite(marked=last)]
answers = [{k: np.transpose(v, (0, 3, 1, 2)) for k, v in answer.items()} for answer in answers]

net = cv2.dnn.readNetFromCaffe("net/deploy.prototxt", "net/network.caffemodel")
more = json.load(open("net/config.json"))["grown"]
assert (more["before"], more["more"], more["rest"]) == (0, 0, 0), more
behind = [-side % more["multiple"] for side in marked.shape[2:]]
grown = [cv2.copyMakeBorder(x, 0, behind[0], 0, behind[1], cv2.BORDER_REPLICATE) for x in last]
net.setInput(marked, "marked")
net.setInput(np.ascontiguousarray(np.transpose(grown, (0, 3, 1, 2))), "grown")
answers.append(dict(zip(["restored", "mask"], net.forward(["restored", "mask"]))))

layers = {type(part).__module__.split(".")[0] for part in model.operations}
assert layers == {"keras"}, layers
assert not any(isinstance(part, keras.layers.Lambda) for part in model.operations)
far = [max(abs(answer[name] - given[name]).max() for name in answer) for answer in answers]
print(json.dumps({"far": list(map(float, far)), "names": [sorted(a) for a in answers]}))
"""


@pytest.mark.slow
def test_without_torch_and_without_this_package(tmp_path):
    network = made("unblend")
    marked = torch.rand(2, 3, 61, 83)
    with torch.inference_mode():
        answer = network(marked)
    arrays = {"restored": answer.image.clamp(0, 1), "mask": answer.mask, "marked": marked}
    np.savez(tmp_path / "given.npz", **{name: x.numpy() for name, x in arrays.items()})
    for name in NAMES:
        write(name, network, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["names"] == [["mask", "restored"]] * 4
    assert max(told["far"]) < 1e-5, told


@pytest.mark.slow
def test_a_network_without_a_mask(tmp_path):
    network = made("resnet", "model.mask=false", "loss=mse")
    for name in ("caffe", "litert", "tensorflow"):
        same(network, FORMATS[name].load(write(name, network, tmp_path)))


def test_caffes_folder_says_what_it_is(tmp_path):
    config = {"_target_": "clearmark.models.UNet", "widths": [4, 8]}
    output = write("caffe", made("unet"), tmp_path, {"model": config, "more": 1})
    assert sorted(path.name for path in output.iterdir()) == [
        "config.json",
        "deploy.prototxt",
        "network.caffemodel",
    ]
    told = json.loads((output / "config.json").read_text())
    assert told == {
        "model": config,
        "outputs": ["restored", "mask"],
        "grown": {"before": 0, "multiple": 8, "more": 0, "rest": 0},
    }
    net = cv2.dnn.readNetFromCaffe(str(output / "deploy.prototxt"))  # structure without weights
    assert {"restored", "mask"} <= set(net.getLayerNames())


@pytest.mark.parametrize(
    ("name", "network", "why"),
    [
        ("caffe", Complex(), "it has no special_bessel_j0"),
        ("caffe", Reflected(), "it pads something else than its input, or not with its rim"),
        pytest.param("keras", Complex(), "it has no special_bessel_j0", marks=pytest.mark.slow),
        pytest.param("litert", Reflected(), "it pads with mode=reflect", marks=pytest.mark.slow),
    ],
)
def test_what_a_runtime_has_not_is_refused(name, network, why, tmp_path):
    with pytest.raises(UserError) as caught:
        write(name, network, tmp_path)
    assert str(caught.value) == f"format={name} cannot carry this network: {why}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("caffe", "google.protobuf", "caffe"),
        ("keras", "keras", "tensorflow"),
    ],
)
def test_the_extra_is_named(name, module, extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'format={name} needs .*: pip install .* "\.\[{extra}\]"'):
        write(name, nn.Identity(), tmp_path)


@pytest.mark.parametrize("name", ["keras", "litert"])
def test_a_file_has_its_formats_name(name, composed, tmp_path):
    typed = cli.quote_paths([f"output={tmp_path / 'net'}"], export.PATHS)
    with pytest.raises(UserError, match=f"format={name} is a file; name it {NAMES[name]}"):
        export.export(composed("export", "ckpt=unet", f"format={name}", *typed))


@pytest.mark.parametrize("name", ["caffe", "tensorflow"])
def test_other_folders_are_left_alone(name, tmp_path):
    (tmp_path / NAMES[name]).mkdir()
    (tmp_path / NAMES[name] / "thesis.txt").write_text("four years")
    with pytest.raises(UserError, match="exists, and is no "):
        write(name, nn.Identity(), tmp_path)
    assert (tmp_path / NAMES[name] / "thesis.txt").read_text() == "four years"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorflow", "caffe"])
def test_as_typed(name, tmp_path):
    """In silence, twice to the same folder."""
    output = tmp_path / NAMES[name]
    words = ["src/export.py", "ckpt=unet", f"format={name}", f"output={output}"]
    done = subprocess.run(
        [sys.executable, *words, "samples=1", "threads=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, PYTHONPATH=f"{ROOT / 'src'}"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    largest = float(done.stdout.split("largest difference ")[1].split()[0])
    assert 0 < largest < 1e-4
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    assert f"{size / 1e6:.2f} MB in " in done.stdout
