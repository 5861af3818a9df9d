"""Networks in other runtimes give what PyTorch gives, for pictures of any number and size."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch
from conftest import ROOT
from torch import nn

import export
from clearmark import cli, runs
from clearmark.config import build_network, create, register_resolvers
from clearmark.errors import UserError
from clearmark.export import FORMATS, graph, onnx, onnx_int8

FILES = {"onnx": ".onnx", "torch": ".pt2"}
SHAPES = [(1, 3, 256, 256), (2, 3, 136, 200), (3, 3, 100, 77), (1, 3, 33, 32)]


def restless(network):
    """Weights and statistics with which every layer shows in the picture."""
    torch.manual_seed(0)
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            if value.is_floating_point():
                value.add_(0.05 * torch.rand_like(value))
    return network.eval()


def made(model, *more):
    register_resolvers()
    torch.manual_seed(0)  # some first weights make values so large that rounding alone is 1e-5
    return restless(create(tiny.config(f"model={model}", *tiny.NARROW[model], *more).model))


def same(network, written):
    for shape in SHAPES:
        marked = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            ours, theirs = network(marked), written(marked)
        assert (ours.image - marked).abs().max() > 1e-2, "the identity proves nothing"
        torch.testing.assert_close(theirs.image, ours.image.clamp(0, 1), atol=1e-5, rtol=0)
        if ours.mask is None:
            assert theirs.mask is None
        else:
            torch.testing.assert_close(theirs.mask, ours.mask, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name"),
    [(model, name) for model in tiny.choices("model") for name in FILES],
)
def test_every_network(model, name, tmp_path):
    network, output = made(model), tmp_path / f"net{FILES[name]}"
    FORMATS[name].write(output, network, {"model": {}}, tmp_path)
    same(network, FORMATS[name].load(output))
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


class Activations(nn.Module):
    """Applies every activation of the config, one after the other, to a picture's values."""

    def __init__(self):
        super().__init__()
        configs = (tiny.config(f"activation={name}") for name in tiny.choices("activation"))
        made = (create(cfg.activation)() for cfg in configs)
        self.layers = nn.ModuleList(made)

    def forward(self, marked):
        outputs = [layer(2 * marked - 1) for layer in self.layers]
        return graph.Restored(torch.stack(outputs).mean(0) / 2, torch.stack(outputs).amax(0)[:, :1])


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_activation(name, tmp_path):
    network, output = Activations().eval(), tmp_path / f"net{FILES[name]}"
    FORMATS[name].write(output, network, {"model": {}}, tmp_path)
    same(network, FORMATS[name].load(output))


def test_a_network_without_a_mask(tmp_path):
    network = made("resnet", "model.mask=false", "loss=mse")
    onnx.write(tmp_path / "net.onnx", network, {"model": {"a": 1}}, tmp_path)
    same(network, onnx.load(tmp_path / "net.onnx"))


@pytest.mark.slow
def test_the_file_says_what_it_is(tmp_path):
    """To a program that knows nothing of this one."""
    import onnxruntime

    config = {"_target_": "clearmark.models.UNet", "widths": [4, 8]}
    onnx.write(tmp_path / "net.onnx", made("unet"), {"model": config, "more": 1}, tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    assert [(i.name, i.shape) for i in session.get_inputs()] == [
        ("marked", ["batch", 3, "height", "width"])
    ]
    assert [o.name for o in session.get_outputs()] == ["restored", "mask"]
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["clearmark"]) == {"model": config}


class Complex(nn.Module):
    def forward(self, marked):
        return graph.Restored(torch.special.bessel_j0(marked))


def test_what_onnx_has_not_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"format=onnx cannot carry this network: .*bessel"
    ) as caught:
        onnx.write(tmp_path / "net.onnx", Complex(), {"model": {}}, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r'onnxscript: pip install .* "\.\[onnx\]"'):
        onnx.write(tmp_path / "net.onnx", made("unet"), {"model": {}}, tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_its_formats_name(name, composed, tmp_path):
    typed = cli.quote_paths([f"output={tmp_path / 'net'}"], export.PATHS)
    with pytest.raises(UserError, match=f"format={name} is a file; name it net{FILES[name]}"):
        export.export(composed("export", "ckpt=unet", f"format={name}", *typed))


@pytest.mark.slow
def test_as_typed(tmp_path):
    words = ["src/export.py", "ckpt=unet", "format=torch", f"output={tmp_path / 'u.pt2'}"]
    done = subprocess.run(
        [sys.executable, *words, "samples=2", "threads=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "largest difference" in done.stdout
    assert "ms, PyTorch" in done.stdout
    network, _ = runs.load_network("unet")
    marked = torch.from_numpy(np.random.default_rng(0).random((1, 3, 70, 90), np.float32))
    with torch.inference_mode():
        ours = network(marked).image.clamp(0, 1)
    module = torch.export.load(tmp_path / "u.pt2").module()
    torch.testing.assert_close(module(marked)[0], ours, atol=1e-5, rtol=0)


def test_networks_are_left_in_their_own_precision(tmp_path):
    network = build_network({**tiny_unet(), "widths": [4, 8]}).double()
    graph.traced(network)
    assert next(network.parameters()).dtype == torch.float64


def tiny_unet():
    activation = {"_target_": "torch.nn.ReLU", "_partial_": True}
    return {"_target_": "clearmark.models.UNet", "activation": activation}


@pytest.mark.slow
def test_eight_bits_restore_nearly_the_same(composed, tmp_path):
    import onnx as library

    output = tmp_path / "net.onnx"
    typed = cli.quote_paths([f"output={output}"], export.PATHS)
    parity = export.export(composed("export", "ckpt=unet", "format=onnx_int8", *typed))
    assert 30 < parity.psnr < 60
    assert output.stat().st_size < 1e6  # of 2.9 MB
    nodes = library.load(str(output)).graph.node
    wide = [node for node in nodes if node.op_type == "DequantizeLinear"]
    quantised = {name for node in wide for name in node.output}
    layers = [node for node in nodes if node.op_type == "Conv"]
    assert layers
    assert all({*node.input[:2]} <= quantised for node in layers)
    assert widest(output) <= 64


def widest(path):
    """The largest of the weights in 8-bit integers; beyond 64 sums overflow without VNNI."""
    from onnx import TensorProto, load, numpy_helper

    weights = [w for w in load(str(path)).graph.initializer if w.data_type == TensorProto.INT8]
    return max(abs(numpy_helper.to_array(w).astype(int)).max() for w in weights)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conv_fc", "resnet"])
def test_eight_bits_of_other_networks(model, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_int8, "PICTURES", 2)
    network, output = made(model), tmp_path / "net.onnx"
    onnx_int8.write(output, network, {"model": {}}, tmp_path)
    assert 32 < widest(output) <= 64
    marked = next(onnx_int8._marked())
    pictures = torch.from_numpy(np.concatenate([marked, 1 - marked]))[..., :99, :201].contiguous()
    with torch.inference_mode():
        ours, theirs = network(pictures), onnx_int8.load(output, 1)(pictures)
    assert (ours.image - pictures).abs().max() > 1e-2, "the identity proves nothing"
    assert (ours.image.clamp(0, 1) - theirs.image).square().mean() < 1e-3
    assert theirs.mask.shape == (2, 1, 99, 201)
