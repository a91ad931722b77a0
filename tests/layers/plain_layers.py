"""What each type of layer computes before its activation, in plain PyTorch: nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Keys = dict[str, Any]


def tensor(value: Any) -> Tensor:
    return torch.as_tensor(np.asarray(value), dtype=torch.float64)


def weights(keys: Keys) -> tuple[Tensor, Tensor | None]:
    """Return the weight and the bias of a layer that has them."""
    bias = keys.get("bias")
    return tensor(keys["weight"]), None if bias is None else tensor(bias)


def dense(x: Tensor, keys: Keys) -> Tensor:
    return F.linear(x, *weights(keys))


def conv(axes: int) -> Callable[..., Tensor]:
    function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]

    def run(x: Tensor, keys: Keys) -> Tensor:
        sides = keys.get("padding", 0)
        sides = [sides] * (2 * axes) if isinstance(sides, int) else sides
        stride, dilation, groups = (keys.get(key, 1) for key in ("stride", "dilation", "groups"))
        return function(F.pad(x, list(sides)), *weights(keys), stride, 0, dilation, groups)

    return run


def transposed(axes: int) -> Callable[..., Tensor]:
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]

    def run(x: Tensor, keys: Keys) -> Tensor:
        stride, dilation, groups = (keys.get(key, 1) for key in ("stride", "dilation", "groups"))
        padding, more = keys.get("padding", 0), keys.get("output_padding", 0)
        return function(x, *weights(keys), stride, padding, more, groups, dilation)

    return run


def maximum(axes: int) -> Callable[..., Tensor]:
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]

    def run(x: Tensor, keys: Keys) -> Tensor:
        padding, dilation, ceil = keys.get("padding", 0), keys.get("dilation", 1), keys.get("ceil_mode", False)
        return function(x, keys["kernel_size"], keys.get("strides"), padding, dilation, ceil)

    return run


def average(axes: int) -> Callable[..., Tensor]:
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]

    def run(x: Tensor, keys: Keys) -> Tensor:
        padding, ceil, count = keys.get("padding", 0), keys.get("ceil_mode", False), keys.get("count_include_pad", True)
        return function(x, keys["kernel_size"], keys.get("strides"), padding, ceil, count)

    return run


def over_positions(x: Tensor, keys: Keys) -> Tensor:
    flat = x.flatten(2)
    out = flat.amax(-1) if keys["method"] == "max" else flat.mean(-1)
    return out.reshape(*out.shape, *[1] * (x.dim() - 2)) if keys.get("keepdims") else out


def adaptive(x: Tensor, keys: Keys) -> Tensor:
    return (F.adaptive_max_pool1d if keys["method"] == "max" else F.adaptive_avg_pool1d)(x, keys["output_size"])


def standardize(x: Tensor, keys: Keys) -> Tensor:
    blocks = x.reshape(len(x), keys["groups"], -1)
    blocks = blocks - blocks.mean(-1, keepdim=True) if keys.get("center", True) else blocks
    root = (keys.get("factor", 1) * (blocks**2).mean(-1, keepdim=True) + keys["eps"]).sqrt()
    return (blocks / (root + keys.get("shift", 0)).clamp(min=keys.get("least", 0))).reshape(x.shape)


def batch_norm(x: Tensor, keys: Keys) -> Tensor:
    shape = (1, -1, *[1] * (x.dim() - 2))
    gamma, beta, mean, var = (tensor(keys[key]).reshape(shape) for key in ("gamma", "beta", "run_mean", "run_var"))
    return (x - mean) / (var + keys["eps"]).sqrt() * gamma + beta


def scale(x: Tensor, keys: Keys) -> Tensor:
    factor, shift = tensor(keys.get("factor", 1.0)), tensor(keys.get("shift", 0.0))
    return torch.stack([row * factor + shift for row in x])


def add(*xs: Any) -> Tensor:
    *terms, _ = xs
    return torch.stack([sum(rows[1:], rows[0]) for rows in zip(*terms, strict=True)])


def row_by_row(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Combine instances that broadcast from their last axis."""

    def run(x: Tensor, y: Tensor, keys: Keys) -> Tensor:
        return torch.stack([function(a, b) for a, b in zip(x, y, strict=True)])

    return run


def reduce(x: Tensor, keys: Keys) -> Tensor:
    function = torch.mean if keys["method"] == "mean" else torch.sum
    return function(x, tuple(keys["axes"]), keepdim=keys.get("keepdims", False))


def concatenate(*xs: Any) -> Tensor:
    *parts, keys = xs
    return torch.cat(parts, keys["axis"])


def flatten(x: Tensor, keys: Keys) -> Tensor:
    x = x.movedim(1, -1) if keys.get("order") == "channels_last" else x
    return x.flatten(keys.get("start_dim", 1), keys.get("end_dim", -1))


def reshape(x: Tensor, keys: Keys) -> Tensor:
    return x.reshape(len(x), *keys["shape"])


def permute(x: Tensor, keys: Keys) -> Tensor:
    return x.permute(0, *keys["axes"])


def take(x: Tensor, keys: Keys) -> Tensor:
    return x.index_select(keys["axis"], torch.tensor(keys["indices"]))


def pad(x: Tensor, keys: Keys) -> Tensor:
    sides = list(keys["padding"]) * ({2: 2, 3: 2, 4: 4, 5: 6}[x.dim()] if len(keys["padding"]) == 1 else 1)
    value = keys["value"] if keys["mode"] == "constant" else None
    if x.dim() == 2:
        return F.pad(x[:, None], sides, keys["mode"], value)[:, 0]
    return F.pad(x, sides, keys["mode"], value)


def resize(x: Tensor, keys: Keys) -> Tensor:
    factor = keys.get("scale_factor")
    size = keys["size"] if factor is None else None
    return F.interpolate(x, size, factor, keys["mode"], keys.get("align_corners"))


def distances(x: Tensor, keys: Keys) -> Tensor:
    return torch.cdist(x, tensor(keys["arguments"][1]))


def unchanged(x: Tensor, keys: Keys) -> Tensor:
    return x


FORWARD: dict[str, Callable[..., Tensor]] = {
    "Dense": dense,
    **{f"Conv{axes}D": conv(axes) for axes in (1, 2, 3)},
    **{f"Conv{axes}DTranspose": transposed(axes) for axes in (1, 2, 3)},
    **{f"MaxPooling{axes}D": maximum(axes) for axes in (1, 2, 3)},
    **{f"AveragePooling{axes}D": average(axes) for axes in (1, 2, 3)},
    "AdaptivePooling": adaptive,
    "GlobalPooling": over_positions,
    "BatchNorm": batch_norm,
    "Standardize": standardize,
    "Activation": unchanged,
    "Scale": scale,
    "Add": add,
    "Multiply": row_by_row(torch.mul),
    "MatMul": row_by_row(torch.matmul),
    "Reduce": reduce,
    "Concatenate": concatenate,
    "Flatten": flatten,
    "Reshape": reshape,
    "Permute": permute,
    "Take": take,
    "Padding": pad,
    "Resize": resize,
    "Skipping": unchanged,
    "Cast": unchanged,
    "Detach": unchanged,
    "Operator": distances,
}
