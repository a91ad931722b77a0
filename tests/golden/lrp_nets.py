"""The networks whose relevances zennit computed (`lrp/README.md`), in plain PyTorch."""

from __future__ import annotations

from torch import nn


class Plus(nn.Module):
    """The residual sum, as a module of its own."""

    def forward(self, a, b):
        return a + b


class Block(nn.Module):
    """A block of a residual network."""

    def __init__(self, c_in, c_out, stride, plus):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        down = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.down = down if stride > 1 else nn.Identity()
        self.plus, self.relu2 = plus(), nn.ReLU()

    def forward(self, x):
        return self.relu2(self.plus(self.down(x), self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))))


def resnet(c, n, plus=Plus):
    """Build a small residual network."""
    return nn.Sequential(
        nn.Conv2d(3, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d(2), Block(c, c, 1, plus),
        Block(c, 2 * c, 2, plus), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * c, n),
    )  # fmt: skip


def S(*layers):  # noqa: N802
    return nn.Sequential(*layers)


L, R, F = nn.Linear, nn.ReLU, nn.Flatten
C1, C2, C3 = nn.Conv1d, nn.Conv2d, nn.Conv3d
#: What builds each network, and the shape of an instance.
NETS = {
    "mlp": (lambda: S(L(6, 10), R(), L(10, 8), R(), L(8, 3)), (6,)),
    "mlp_nobias": (lambda: S(L(6, 10, bias=False), R(), L(10, 8, bias=False), R(), L(8, 3, bias=False)), (6,)),
    "mlp_tanh": (lambda: S(L(5, 9), nn.Tanh(), L(9, 4), nn.Sigmoid(), L(4, 2)), (5,)),
    "cnn_max": (lambda: S(C2(2, 6, 3, padding=1), R(), nn.MaxPool2d(2), C2(6, 8, 3), R(), F(), L(32, 4)), (2, 8, 8)),
    "cnn_avg": (
        lambda: S(
            C2(3, 4, 3, stride=2), R(), nn.AvgPool2d(2, 1), C2(4, 6, 2, dilation=2), R(), nn.AdaptiveAvgPool2d(1), F(),
            L(6, 3),
        ),
        (3, 11, 11),
    ),
    "vgg_bn": (
        lambda: S(
            C2(3, 6, 3, padding=1), nn.BatchNorm2d(6), R(), C2(6, 6, 3, padding=1), nn.BatchNorm2d(6), R(),
            nn.MaxPool2d(2), F(), L(96, 12), R(), nn.Dropout(), L(12, 5),
        ),
        (3, 8, 8),
    ),
    "signal": (
        lambda: S(
            C1(3, 5, 4, stride=2), R(), C1(5, 6, 3, padding=2), nn.LeakyReLU(0.1), nn.AvgPool1d(2), F(), L(24, 3)
        ),
        (3, 16),
    ),
    "volume": (lambda: S(C3(1, 4, 3), R(), nn.MaxPool3d(2), F(), L(32, 2)), (1, 6, 6, 6)),
    "grouped": (lambda: S(C2(4, 8, 3, padding=1, groups=4), R(), C2(8, 6, 1), R(), F(), L(150, 3)), (4, 5, 5)),
    "upsampled": (
        lambda: S(C2(2, 4, 3, stride=2), R(), nn.ConvTranspose2d(4, 3, 3, stride=2), R(), F(), L(147, 3)), (2, 7, 7),
    ),
    "resnet": (lambda: resnet(5, 4), (3, 10, 10)),
}  # fmt: skip
