"""Architectures as people use them, untrained, written here so that nothing needs to be downloaded.

Each is named after the network whose layers and sizes it has, and takes one row of the shape beside it in `ZOO`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.zoo import attention, convolutions, light, places, series

IMAGE = (3, 64, 64)

#: What builds each network, and the shape of its input.
ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (series.perceptron, (20,)),
    "vgg11": (convolutions.vgg, IMAGE),
    "resnet18": (lambda: convolutions.resnet((2, 2, 2, 2), False), IMAGE),
    "resnet34": (lambda: convolutions.resnet((3, 4, 6, 3), False), IMAGE),
    "resnet50": (lambda: convolutions.resnet((3, 4, 6, 3), True), IMAGE),
    "resnext50": (lambda: convolutions.resnet((3, 4, 6, 3), True, 32, 4), IMAGE),
    "preresnet": (convolutions.preresnet, (3, 32, 32)),
    "regnet": (convolutions.regnet, IMAGE),
    "densenet121": (convolutions.densenet, IMAGE),
    "googlenet": (convolutions.googlenet, IMAGE),
    "inception": (convolutions.inception, IMAGE),
    "xception": (convolutions.xception, IMAGE),
    "darknet": (convolutions.darknet, IMAGE),
    "convnext": (convolutions.convnext, IMAGE),
    "convmixer": (convolutions.convmixer, IMAGE),
    "mobilenet": (light.mobilenet, IMAGE),
    "mobilenet3": (light.mobilenet3, IMAGE),
    "efficientnet": (light.efficientnet, IMAGE),
    "squeezenet": (light.squeezenet, IMAGE),
    "shufflenet": (light.shufflenet, IMAGE),
    "ghostnet": (light.ghostnet, IMAGE),
    "unet": (places.UNet, IMAGE),
    "pyramid": (places.Pyramid, IMAGE),
    "vit": (attention.ViT, IMAGE),
    "swin": (attention.Swin, (3, 128, 128)),
    "mixer": (attention.mixer, (64, 192)),
    "gmlp": (attention.gmlp, (64, 192)),
    "encoder": (lambda: attention.encoder(False), (50, 128)),
    "encoder_norm_first": (lambda: attention.encoder(True), (50, 128)),
    "gpt": (attention.gpt, (64, 256)),
    "ft_transformer": (attention.ft_transformer, (20,)),
    "tcn": (series.tcn, (8, 128)),
    "wave": (series.Wave, (8, 128)),
    "inception_time": (series.inception_time, (8, 128)),
}


def build(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a network and the shape of its input."""
    make, dim = ZOO[name]
    torch.manual_seed(0)
    return make().eval(), dim
