"""Models that exporters write: the outputs are onnxruntime's, the attributions those of the same model's own door."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
import torch
import torch_models
from torch import nn

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

import onnx_models as om  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402

from innsight_py import Converter, run_deeplift, run_grad, run_lrp  # noqa: E402


class Recurrent(nn.Module):
    """A recurrent network that looks at its last step."""

    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.inner = kind(4, 5, batch_first=True, **options)
        self.head = nn.Linear(5 * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, x):
        return self.head(self.inner(x)[0][:, -1])


class Encoder(nn.Module):
    """A transformer's encoder, and a mean over positions."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.inner = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.inner(x).mean(1))


class Segmentation(nn.Module):
    """A U-Net, and the mean of each of its maps."""

    def __init__(self):
        super().__init__()
        self.down, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        down = torch.relu(self.down(x))
        up = self.up(torch.relu(self.inner(nn.functional.max_pool2d(down, 2))))
        wide = nn.functional.interpolate(up, scale_factor=2, mode="bilinear")
        return self.out(torch.cat([down, nn.functional.avg_pool2d(wide, 2)], 1)).mean((2, 3))


class Dense(nn.Module):
    """DenseNet's blocks: each convolution sees all that came before it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(11), nn.Linear(11, 3)

    def forward(self, x):
        x = torch.cat([x, torch.relu(self.first(x))], 1)
        x = torch.cat([x, torch.relu(self.second(x))], 1)
        return self.head(torch.relu(self.norm(x)).mean((2, 3)))


class MobileBlock(nn.Module):
    """MobileNetV3's and EfficientNet's: depthwise convolutions, squeeze and excitation, hard swish or SiLU."""

    def __init__(self, activation):
        super().__init__()
        self.wide, self.deep = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.squeeze, self.excite, self.head = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1), nn.Linear(6, 3)
        self.norm, self.activation = nn.BatchNorm2d(6), activation
        self.gate = nn.Hardsigmoid() if isinstance(activation, nn.Hardswish) else nn.Sigmoid()

    def forward(self, x):
        x = self.activation(self.norm(self.deep(self.activation(self.wide(x)))))
        gate = self.gate(self.excite(torch.relu(self.squeeze(nn.functional.adaptive_avg_pool2d(x, 1)))))
        return self.head((x * gate).mean((2, 3)))


IMAGE = (3, 8, 8)
MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3), nn.Softmax(-1)), (4,)),
    "resnet": (torch_models.ResNet, (3, 16, 16)),
    "inception": (torch_models.Inception, (3, 16, 16)),
    "convnext": (torch_models.ConvNeXt, (3, 16, 16)),
    "mobilenet": (lambda: MobileBlock(nn.Hardswish()), IMAGE),
    "efficientnet": (lambda: MobileBlock(nn.SiLU()), IMAGE),
    "densenet": (Dense, IMAGE),
    "unet": (Segmentation, IMAGE),
    "lstm": (lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True), (5, 4)),
    "gru": (lambda: Recurrent(nn.GRU), (5, 4)),
    "rnn": (lambda: Recurrent(nn.RNN, bidirectional=True), (5, 4)),
    "encoder": (Encoder, (5, 8)),
}
#: Models whose graphs have the same layers through both doors: LRP is the same as well.
SAME_GRAPH = ("mlp", "inception", "lstm", "rnn", "unet")


def exported(module, shape, path, dynamo):
    """Export a module, with the exporter of TorchScript or the newer one."""
    x = torch.randn(2, *shape)
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # torchvision is not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                rows = ({0: torch.export.Dim("rows")},)
                torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=rows, verbose=False)
            else:
                axes = {"x": {0: "rows"}}
                torch.onnx.export(module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    finally:
        logging.disable(before)
    return path


def onnxruntime_says(path, x):
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.asarray(x, np.float32)})[0]


def same_attributions(ours, own, x, methods=(run_grad, run_deeplift)):
    for method in methods:
        options = {"channels_first": True, "dtype": "double", "verbose": False}
        a, b = (method(converter, x, **options).get_result("array") for converter in (ours, own))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", MODELS)
def test_pytorch(name, dynamo, tmp_path):
    torch.manual_seed(3)
    build, shape = MODELS[name]
    module = build().eval()
    path = exported(module, shape, tmp_path / "model.onnx", dynamo)
    x = torch.randn(2, *shape)
    converter, own = Converter(path), Converter(module, input_dim=shape)
    np.testing.assert_allclose(converter.model(x)[0].detach(), onnxruntime_says(path, x), atol=1e-5)
    same_attributions(converter, own, x)
    if name in SAME_GRAPH:
        same_attributions(converter, own, x, (run_lrp,))


class Words(nn.Module):
    """A language model that takes embeddings, and what its last position says."""

    def __init__(self, inner, **options):
        super().__init__()
        self.inner, self.options, self.head = inner, options, nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.inner(inputs_embeds=x, **self.options).last_hidden_state[:, -1])


def _transformer(kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 30
    }  # fmt: skip
    if kind == "bert":
        return Words(transformers.BertModel(transformers.BertConfig(**sizes))), (5, 16)
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=30, n_positions=20)
        return Words(transformers.GPT2Model(config), use_cache=False), (5, 16)
    if kind == "llama":
        config = transformers.LlamaConfig(**sizes, num_key_value_heads=1)
        return Words(transformers.LlamaModel(config), use_cache=False), (5, 16)
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=3)

    class Pictures(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = transformers.ViTForImageClassification(config)

        def forward(self, x):
            return self.inner(pixel_values=x).logits

    return Pictures(), (3, 16, 16)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "vit"])
def test_transformers(kind, tmp_path):
    module, shape = _transformer(kind)
    module = module.eval()
    path = exported(module, shape, tmp_path / "model.onnx", dynamo=True)
    x = torch.randn(2, *shape)
    converter, own = Converter(path), Converter(module, input_dim=shape)
    np.testing.assert_allclose(converter.model(x)[0].detach(), onnxruntime_says(path, x), atol=1e-5)
    same_attributions(converter, own, x)


@pytest.mark.filterwarnings("ignore")
def test_keras(tmp_path):
    keras = pytest.importorskip("keras")
    if keras.config.backend() != "torch":
        pytest.skip("exported with PyTorch")
    keras.utils.set_random_seed(2)
    parts = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(2)]
    model = keras.Sequential([*parts, keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    path = tmp_path / "model.onnx"
    model(np.zeros((1, 8, 8, 3), np.float32))
    model.export(path, format="onnx", verbose=False)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    converter, own = Converter(path), Converter(model)
    assert converter.input_dim == own.input_dim == [(3, 8, 8)]
    assert not converter.channels_first
    for method in (run_grad, run_deeplift):
        a, b = (method(c, x, verbose=False, dtype="double").get_result("array") for c in (converter, own))
        np.testing.assert_allclose(a, b, atol=1e-5)
    (output,) = converter.model(torch.from_numpy(x).movedim(-1, 1))
    np.testing.assert_allclose(output.detach(), onnxruntime_says(path, x), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_scikit_learn(classes):
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(5)
    x = rng.normal(3, 2, size=(60, 4))
    y = np.array(["a", "b", "c"])[(x[:, 0] > 3).astype(int) + (classes - 2) * (x[:, 1] > 4)]
    net = MLPClassifier((5,), random_state=0, max_iter=400, tol=1e-3)
    pipeline = make_pipeline(StandardScaler(), net).fit(x, y)
    model = skl2onnx.to_onnx(pipeline, x[:1].astype(np.float32))
    converter = Converter(model)
    assert converter.output_keys == ["output_probability"]
    found = converter.model(torch.from_numpy(x[:5]).float())[0].detach()
    np.testing.assert_allclose(found, pipeline.predict_proba(x[:5]), atol=1e-5)
    options = {"dtype": "double", "verbose": False, "ignore_last_act": False}
    ours, own = (run_grad(c, x[:5], **options).get_result("array") for c in (converter, Converter(pipeline)))
    np.testing.assert_allclose(ours, own, atol=1e-5)


# -- what exporters other than PyTorch's do --------------------------------------------------------------------------


def _tensorflow(shape=("N", 6, 6, 2)):
    """Build what tf2onnx writes: pictures with their channels last, turned before a convolution and back after it."""
    rng = np.random.default_rng(4)
    constants = {
        "mean": np.array([0.5, -1], np.float32), "w": rng.normal(size=(3, 2, 3, 3)).astype(np.float32),
        "d": rng.normal(size=(48, 4)).astype(np.float32), "flat": np.array([-1, 48]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("Transpose", ["c"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w"], ["conv"]), helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Transpose", ["relu"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["last", "flat"], ["row"]), helper.make_node("MatMul", ["row", "d"], ["y"]),
    ]  # fmt: skip
    return om.graph(nodes, {"x": list(shape)}, {"y": ["N", 4]}, constants)


def test_pictures_of_tensorflow_are_not_turned_around():
    model = _tensorflow()
    converter = Converter(model)
    assert converter.input_dim == [(2, 6, 6)]
    assert not converter.channels_first
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype(np.float32)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = converter.model(torch.from_numpy(x).movedim(-1, 1))
    np.testing.assert_allclose(output.detach(), session.run(None, {"x": x})[0], atol=1e-5)
    result = run_grad(converter, x).get_result("array")
    assert result.shape == (3, 6, 6, 2, 4)


def test_pictures_of_open_size_with_channels_last():
    model = _tensorflow(("N", None, None, 2))
    assert Converter(model, input_dim=(2, 6, 6)).output_dim == [(4,)]


def test_half_precision_is_widened():
    model, x = om.mlp(), torch.randn(3, 4)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    hidden = np.maximum(x.double().numpy() @ weights["w1"].T + weights["b1"], 0)
    scores = hidden @ weights["w2"].T + weights["b2"]
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(Converter(model).model(x)[0].detach(), expected, atol=1e-5)


def test_quantised_weights_are_read():
    quantised = np.array([[10, -3], [7, 100], [-128, 0]], np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        helper.make_node("Gemm", ["x", "w"], ["y"], transB=1),
    ]  # fmt: skip
    constants = {"q": quantised, "s": np.array([0.5, 0.1, 0.02], np.float32), "z": np.zeros(3, np.int8)}
    converter = Converter(om.graph(nodes, {"x": ["N", 2]}, {"y": ["N", 3]}, constants))
    weight = quantised * constants["s"][:, None]
    x = torch.randn(4, 2)
    np.testing.assert_allclose(converter.model(x)[0].detach(), x.numpy() @ weight.T, rtol=1e-4, atol=1e-4)


def test_chains_that_find_shapes_disappear():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Gather", ["shape", "zero"], ["rows"]),
        helper.make_node("Unsqueeze", ["rows", "axis"], ["r"]),
        helper.make_node("Concat", ["r", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]  # fmt: skip
    constants = {
        "zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1]), "w": np.ones((6, 2), np.float32)
    }  # fmt: skip
    converter = Converter(om.graph(nodes, {"x": ["N", 2, 3]}, {"y": ["N", 2]}, constants), save_model_as_dict=True)
    assert [layer["type"] for layer in converter.model_as_dict["layers"]] == ["Flatten", "Dense"]


def test_functions_of_the_model_are_written_out():
    double = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 21)]
    )  # fmt: skip
    model = om.graph([helper.make_node("Twice", ["x"], ["y"], domain="own")], {"x": ["N", 3]}, {"y": ["N", 3]})
    model.functions.append(double)
    model.opset_import.append(helper.make_opsetid("own", 1))
    x = torch.randn(2, 3)
    torch.testing.assert_close(Converter(model).model(x)[0], 2 * x)


def test_names_are_the_models():
    converter = Converter(om.mlp(), save_model_as_dict=True)
    assert (converter.input_keys, converter.output_keys) == (["x"], ["p"])
    layers = converter.model_as_dict["layers"]
    assert [(layer["name"], layer["place"]) for layer in layers] == [
        ("first", "node 'first' (Gemm)"), ("second", "node 'second' (Gemm)")
    ]  # fmt: skip
