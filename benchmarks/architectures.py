"""Real architectures with random weights: classifiers of transformers, pytorchcv, Keras and smaller packages.

Every entry has a name, ``package/architecture``, and a function that builds it. The configurations make models of
transformers small. All others have the size of their package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

#: How many words the small vocabularies have, and how long a text is.
WORDS, LENGTH = 60, 8
#: The rules of LRP for transformers, and for everything else.
TRANSFORMER, CONVOLUTIONS = "attnlrp", "epsilon_plus"
#: Keys of a configuration of transformers, and what makes a model small.
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "dim", "n_embd", "embed_dim", "emb_dim", "true_hidden_size"), 32),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_decoder_layers", "n_encoder_layers"), 2),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "ffn_dim", "d_ff", "hidden_dim"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "mlp_hidden_size"), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2), "n_group": 1, "topk_group": 1,
    **dict.fromkeys(("vocab_size", "n_words"), WORDS), "num_key_value_heads": 2, "head_dim": 16, "d_kv": 16,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16,
    **dict.fromkeys(("pad_token_id", "bos_token_id", "pad_index"), 0), "embedding_size": 16, "sliding_window": 4,
    "qk_head_dim": 16, "d_inner": 64, "d_head": 16, "d_embed": 32,
    "d_latents": 32, "num_latents": 8, "num_blocks": 1, "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2, "num_cross_attention_heads": 2, "max_position_embeddings": 64,
    "image_size": 32, "patch_size": 8, "eos_token_id": 1, "n_positions": 64, "attention_window": 4,
    "global_attn_every_n_layers": 2, "local_attention": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8,
    "conv_dim": (16, 16), "conv_kernel": (4, 3), "conv_stride": (3, 2), "num_feat_extract_layers": 2,
    "num_mel_bins": 16, "max_length": 32, "max_source_positions": 16,
    "depths": lambda depths: [1] * len(depths),
    "hidden_sizes": lambda sizes: [max(8, size // 8) for size in sizes],
}  # fmt: skip
#: What else some configurations need, by the name of the model's type.
ALSO: dict[str, dict[str, Any]] = {
    "bit": {"embedding_size": 32, "hidden_sizes": [32, 64, 64, 64], "num_groups": 8},
    "swin": {"window_size": 2, "num_heads": [1, 1, 2, 2], "patch_size": 2, "embed_dim": 16},
    "swinv2": {"window_size": 2, "num_heads": [1, 1, 2, 2], "patch_size": 2, "embed_dim": 16},
    "donut-swin": {"window_size": 2, "num_heads": [1, 1, 2, 2], "patch_size": 2, "embed_dim": 16},
    "focalnet": {"patch_size": 2, "embed_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "audio-spectrogram-transformer": {"patch_size": 4, "frequency_stride": 4, "time_stride": 4},
    "longformer": {"attention_window": [4, 4]},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
    "levit": {"hidden_sizes": [128, 256, 384], "image_size": 64, "patch_size": 16},
    "convnext": {"patch_size": 4, "image_size": 64}, "convnextv2": {"patch_size": 4, "image_size": 64},
    "hgnet_v2": {"hidden_sizes": [256, 512, 1024, 2048]},
    "pvt": {"num_attention_heads": [1, 1, 2, 2], "hidden_sizes": [8, 16, 32, 32], "image_size": 64, "patch_size": 4},
    "pvt_v2": {"num_attention_heads": [1, 1, 2, 2], "hidden_sizes": [8, 16, 32, 32], "image_size": 64},
    "segformer": {"num_attention_heads": [1, 1, 2, 2], "hidden_sizes": [8, 16, 32, 32], "image_size": 64},
    "mobilevit": {"hidden_sizes": [16, 16, 16], "num_attention_heads": 2, "image_size": 64, "patch_size": 2},
    "mobilevitv2": {"image_size": 64, "patch_size": 2},
    "wav2vec2-bert": {"feature_projection_input_dim": 16},
    "reformer": {"axial_pos_shape": [4, 16], "axial_pos_embds_dim": [16, 16], "attn_layers": ["local", "lsh"],
                 "feed_forward_size": 64, "attention_head_size": 16, "num_buckets": 4},
    "xlnet": {"d_inner": 64, "n_head": 2, "d_head": 16},
    "funnel": {"block_sizes": [1, 1], "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64},
    "mobilebert": {"intra_bottleneck_size": 16, "embedding_size": 16, "true_hidden_size": 16},
    "layoutlm": {"max_2d_position_embeddings": 64},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "mpt": {"d_model": 32, "n_heads": 2, "n_layers": 2},
    "gptj": {"rotary_dim": 8},
    "imagegpt": {"n_positions": 64},
    "efficientnet": {"image_size": 64, "hidden_dim": 2560},
    "mobilenet_v1": {"image_size": 64}, "mobilenet_v2": {"image_size": 64},
    "swiftformer": {"image_size": 64, "embed_dims": [16, 16, 32, 32], "depths": [1, 1, 1, 1]},
}  # fmt: skip
#: Architectures of pytorchcv: a module of `pytorchcv.models`, and its smallest model.
PYTORCHCV = (
    "airnet.airnet50_1x64d_r2", "alexnet.alexnet", "bagnet.bagnet9", "bamresnet.bam_resnet18",
    "bninception.bninception", "cbamresnet.cbam_resnet18", "channelnet.channelnet",
    "condensenet.condensenet74_c4_g4", "darknet.darknet_tiny", "darknet53.darknet53", "darts.darts",
    "densenet.densenet121", "diaresnet.diaresnet10", "diapreresnet.diapreresnet10", "dicenet.dicenet_wd5",
    "diracnetv2.diracnet18v2", "dla.dla34", "dpn.dpn68", "drn.drnd22", "efficientnet.efficientnet_b0",
    "efficientnetedge.efficientnet_edge_small_b", "espnetv2.espnetv2_wd2", "fbnet.fbnet_cb",
    "fdmobilenet.fdmobilenet_wd4", "fishnet.fishnet99", "ghostnet.ghostnet", "hardnet.hardnet39ds",
    "hrnet.hrnet_w18_small_v1", "ibndensenet.ibn_densenet121", "ibnresnet.ibn_resnet50", "igcv3.igcv3_wd4",
    "inceptionresnetv1.inceptionresnetv1", "inceptionv3.inceptionv3", "inceptionv4.inceptionv4",
    "irevnet.irevnet301", "isqrtcovresnet.isqrtcovresnet18", "menet.menet108_8x1_g3", "mixnet.mixnet_s",
    "mnasnet.mnasnet_small", "mobilenet.mobilenet_wd4", "mobilenetb.mobilenetb_wd4", "mobilenetv2.mobilenetv2_wd4",
    "mobilenetv3.mobilenetv3_small_wd2", "nasnet.nasnet_4a1056", "octresnet.octresnet10_ad2", "peleenet.peleenet",
    "pnasnet.pnasnet5large", "polynet.polynet", "preresnet.preresnet10", "proxylessnas.proxylessnas_cpu",
    "regnet.regnetx002", "resattnet.resattnet56", "resneta.resneta10", "resnetd.resnetd50b", "resnet.resnet10",
    "resnext.resnext14_32x2d", "revnet.revnet38", "scnet.scnet50", "selecsls.selecsls42b", "senet.senet16",
    "seresnet.seresnet10", "seresnext.seresnext50_32x4d", "sharesnet.sharesnet18", "shufflenet.shufflenet_g1_wd4",
    "shufflenetv2.shufflenetv2_wd2", "sknet.sknet50", "sparsenet.sparsenet121", "spnasnet.spnasnet",
    "squeezenet.squeezenet_v1_1", "squeezenext.sqnxt23_w1", "tresnet.tresnet_m", "vgg.vgg11", "vovnet.vovnet27s",
    "wrn.wrn50_2", "xception.xception", "xdensenet.xdensenet121_2", "zfnet.zfnet",
    "densenet_cifar.densenet40_k12_cifar10", "fractalnet_cifar.fractalnet_cifar10", "nin_cifar.nin_cifar10",
    "preresnet_cifar.preresnet20_cifar10", "pyramidnet_cifar.pyramidnet110_a48_cifar10",
    "resnet_cifar.resnet20_cifar10", "resnext_cifar.resnext20_1x64d_cifar10", "rir_cifar.rir_cifar10",
    "ror_cifar.ror3_56_cifar10", "seresnet_cifar.seresnet20_cifar10",
    "shakeshakeresnet_cifar.shakeshakeresnet20_2x16d_cifar10", "wrn_cifar.wrn16_10_cifar10", "jasper.jasper5x3",
)  # fmt: skip
#: Architectures of Keras Applications, of each family its smallest, and the pixels of its image.
KERAS = {
    "ConvNeXtTiny": 64, "DenseNet121": 64, "EfficientNetB0": 64, "EfficientNetV2B0": 64, "InceptionResNetV2": 96,
    "InceptionV3": 96, "MobileNet": 64, "MobileNetV2": 64, "MobileNetV3Small": 64, "NASNetMobile": 64, "ResNet50": 64,
    "ResNet50V2": 64, "VGG16": 64, "Xception": 96,
}  # fmt: skip


class Made(NamedTuple):
    """A model, what `Converter` needs beside it, what it is called with, and the rules of LRP that suit it."""

    model: Any
    keys: dict[str, Any]
    data: Any
    rule: str


def architectures() -> dict[str, Callable[[], Made]]:
    """Return what builds each architecture, by its name."""
    return dict([*_transformers(), *_pytorchcv(), *_keras(), *_others()])


def _transformers() -> Iterator[tuple[str, Callable[[], Made]]]:
    names = importlib.import_module("transformers.models.auto.modeling_auto")
    for task in ("IMAGE", "SEQUENCE", "AUDIO"):
        for kind, found in getattr(names, f"MODEL_FOR_{task}_CLASSIFICATION_MAPPING_NAMES").items():
            cls = found if isinstance(found, str) else found[0]
            yield f"transformers/{cls}", lambda kind=kind, cls=cls, task=task: _hugging_face(kind, cls, task)


def _hugging_face(kind: str, name: str, task: str) -> Made:
    """Build a small model of transformers from its configuration, and an example for it."""
    package = importlib.import_module("transformers")
    package.logging.set_verbosity_error()
    cls = getattr(package, name)
    also = {"num_labels": 3} | ({"pad_token_id": 0} if task == "SEQUENCE" else {})
    model = cls(_small(cls.config_class, also | ALSO.get(kind, {}))).eval()
    generator = torch.Generator().manual_seed(1)
    example: dict[str, Tensor]
    if task == "SEQUENCE":
        ids = torch.randint(3, WORDS, (2, LENGTH), generator=generator)
        ids[:, -1] = 1  # some read the text's end
        example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    elif task == "AUDIO":
        config, name_of = model.config, cls.main_input_name
        bins = getattr(config, "num_mel_bins", getattr(config, "feature_projection_input_dim", 16))
        frames = {"ASTForAudioClassification": (32, bins), "WhisperForAudioClassification": (bins, 32)}
        dim = frames.get(name, (16, bins) if name_of == "input_features" else (64,))
        example = {name_of: torch.randn(2, *dim, generator=generator)}
    else:
        config = getattr(model.config, "vision_config", model.config)
        side = getattr(config, "image_size", 64)
        side = side[0] if isinstance(side, (list, tuple)) else side
        example = {"pixel_values": torch.randn(2, 3, side, side, generator=generator)}
    return Made(model, {"example": example, "output": "logits"}, example, TRANSFORMER)


def _small(config: Any, also: dict[str, Any]) -> Any:
    """Return a small configuration; keys that it does not have are left out."""
    default = config()
    keys: dict[str, Any] = {}
    for key, value in SMALL.items():
        there = getattr(default, key, None)
        if there is None or key in getattr(config, "attribute_map", {}):
            continue
        if callable(value):
            keys[key] = value(there)
        elif isinstance(there, (list, tuple)) == isinstance(value, tuple):
            keys[key] = value
    parts = getattr(config, "sub_configs", {})
    for key, part in parts.items():
        if isinstance(getattr(default, key, None), part):
            keys[key] = _small(part, {})
    return config(**{**keys, **also})


def _pytorchcv() -> Iterator[tuple[str, Callable[[], Made]]]:
    for entry in PYTORCHCV:
        module, _, name = entry.partition(".")
        yield f"pytorchcv/{name}", lambda module=module, name=name: _of_pytorchcv(module, name)


def _of_pytorchcv(module: str, name: str) -> Made:
    model = getattr(importlib.import_module(f"pytorchcv.models.{module}"), name)(pretrained=False).eval()
    if module == "jasper":
        x = torch.randn(2, 64, 128), torch.full((2,), 128)
        return Made(model, {"example": x, "output": 0}, x[0], CONVOLUTIONS)
    side = 32 if "cifar" in module else getattr(model, "in_size", (224, 224))[0]
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    return Made(model, {"input_dim": x.shape[1:]}, x, CONVOLUTIONS)


def _keras() -> Iterator[tuple[str, Callable[[], Made]]]:
    for name, side in KERAS.items():
        yield f"keras/{name}", lambda name=name, side=side: _of_keras(name, side)


def _of_keras(name: str, side: int) -> Made:
    keras = importlib.import_module("keras")
    keras.utils.set_random_seed(1)
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=5)
    x = torch.rand(2, side, side, 3, generator=torch.Generator().manual_seed(1)).numpy()
    return Made(model, {}, x, CONVOLUTIONS)


def _others() -> Iterator[tuple[str, Callable[[], Made]]]:
    yield "efficientnet-pytorch/efficientnet-b0", lambda: _efficientnet()
    for name in ("MLP", "ResNet", "FTTransformer"):
        yield f"rtdl-revisiting-models/{name}", lambda name=name: _tabular(name)
    yield "tabm/TabM", lambda: _tabm()
    for name in ("LSTM", "GRU", "TransformerEncoder"):
        yield f"torch/{name}", lambda name=name: _torch(name)


def _image(model: nn.Module, side: int) -> Made:
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    return Made(model.eval(), {"input_dim": (3, side, side)}, x, CONVOLUTIONS)


def _efficientnet() -> Made:
    return _image(importlib.import_module("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b0"), 64)


def _tabular(name: str) -> Made:
    package = importlib.import_module("rtdl_revisiting_models")
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    if name == "FTTransformer":
        keys = package.FTTransformer.get_default_kwargs(n_blocks=2)
        model = package.FTTransformer(n_cont_features=6, cat_cardinalities=[], d_out=3, **keys).eval()
        return Made(model, {"example": (x, None)}, x, TRANSFORMER)
    size = {"d_in": 6, "d_out": 3, "n_blocks": 2, "d_block": 32}
    if name == "MLP":
        return Made(package.MLP(**size, dropout=0.1).eval(), {"input_dim": (6,)}, x, CONVOLUTIONS)
    also = {"d_hidden": None, "d_hidden_multiplier": 2.0, "dropout1": 0.1, "dropout2": 0.1}
    return Made(package.ResNet(**size, **also).eval(), {"input_dim": (6,)}, x, CONVOLUTIONS)


def _tabm() -> Made:
    model = importlib.import_module("tabm").TabM.make(n_num_features=6, cat_cardinalities=[], d_out=3).eval()
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    return Made(model, {"example": x, "output": lambda y: y.mean(1)}, x, CONVOLUTIONS)


class Last(nn.Module):
    """A network over time, and a dense layer over its last step."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Run both."""
        y = self.body(x)
        y = y[0] if isinstance(y, tuple) else y
        out: Tensor = self.head(y[:, -1])
        return out


def _torch(name: str) -> Made:
    body: nn.Module
    if name == "TransformerEncoder":
        body = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
    else:
        body = getattr(nn, name)(16, 16, num_layers=2, batch_first=True, bidirectional=False)
    x = torch.randn(2, 10, 16, generator=torch.Generator().manual_seed(1))
    rule = TRANSFORMER if name == "TransformerEncoder" else CONVOLUTIONS
    return Made(Last(body, 16).eval(), {"input_dim": (16, 10), "channels_first": False}, x, rule)
