"""Models for the tests of the Keras door: one or more for each class of layers, with random weights."""

from __future__ import annotations

import zlib

import keras
import numpy as np
import torch

from innsight_py import Converter, run_deeplift

L = keras.layers
SIGNAL, IMAGE, VOLUME = (11, 3), (9, 8, 4), (6, 5, 4, 2)


def randomised(model, seed=0):
    """Give all weights of a model random values; variances positive ones."""
    rng = np.random.default_rng(seed)
    weights = []
    for variable in model.weights:
        name, value = variable.name, np.asarray(keras.ops.convert_to_numpy(variable.value))
        if value.dtype.kind != "f":
            weights.append(value)
        elif "variance" in name:
            weights.append(rng.uniform(0.5, 2.0, value.shape).astype(value.dtype))
        else:
            depthwise = value.ndim == 4 and value.shape[-1] == 1
            fan = int(np.prod(value.shape[:2] if depthwise else value.shape[:-1])) if value.ndim > 1 else 4
            weights.append((rng.normal(0, 1.5, value.shape) / np.sqrt(max(fan, 1))).astype(value.dtype))
    model.set_weights(weights)
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def build(shapes, apply, seed=None):
    """Build a functional model that applies a layer, or a function of symbolic tensors, to inputs."""
    shapes = shapes if isinstance(shapes, list) else [shapes]
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], apply(*inputs))
    return randomised(model, zlib.crc32(repr(shapes).encode()) if seed is None else seed)


def several(layer):
    """Return a function that calls a layer with a list of values."""
    return lambda *x: layer(list(x))


def _spatial():
    for n, shape in ((1, SIGNAL), (2, IMAGE), (3, VOLUME)):
        conv = getattr(L, f"Conv{n}D")
        for name, keys in {
            "valid": {},
            "same": {"padding": "same"},
            "same, even kernel": {"padding": "same", "kernel_size": 2},
            "same, strides": {"padding": "same", "strides": 2, "kernel_size": 4},
            "strides": {"strides": 2},
            "dilated": {"dilation_rate": 2, "kernel_size": 2, "padding": "same"},
            "no bias, tanh": {"use_bias": False, "activation": "tanh"},
        }.items():
            yield (
                f"Conv{n}D {name}",
                shape,
                lambda conv=conv, keys=keys: conv(**{"filters": 4, "kernel_size": 3, **keys}),
            )
        transposed = getattr(L, f"Conv{n}DTranspose")
        for name, keys in {
            "valid": {},
            "same": {"padding": "same"},
            "same, strides": {"padding": "same", "strides": 2},
            "same, even kernel, strides": {"padding": "same", "strides": 2, "kernel_size": 4},
            "same, kernel 5, strides 2": {"padding": "same", "strides": 2, "kernel_size": 5, "activation": "relu"},
            "strides over kernel": {"strides": 3, "kernel_size": 2},
            "same, strides over kernel": {"strides": 3, "kernel_size": 2, "padding": "same"},
            "relu": {"activation": "relu", "use_bias": False},
        }.items():
            build_it = lambda t=transposed, keys=keys: t(**{"filters": 3, "kernel_size": 3, **keys})  # noqa: E731
            yield f"Conv{n}DTranspose {name}", shape, build_it
        for kind in ("Max", "Average"):
            pool = getattr(L, f"{kind}Pooling{n}D")
            for name, keys in {
                "valid": {},
                "overlapping": {"pool_size": 3, "strides": 1},
                "same": {"padding": "same"},
                "same, 3, strides 2": {"padding": "same", "pool_size": 3, "strides": 2},
                "same, 2, strides 1": {"padding": "same", "pool_size": 2, "strides": 1},
                "same, 4, strides 1": {"padding": "same", "pool_size": 4, "strides": 1},
                "same, 3, strides 1": {"padding": "same", "pool_size": 3, "strides": 1},
                "same, 4, strides 3": {"padding": "same", "pool_size": 4, "strides": 3},
                "same, 1, strides 2": {"padding": "same", "pool_size": 1, "strides": 2},
            }.items():
                keys = {"pool_size": 2, **keys}
                yield f"{kind}Pooling{n}D {name}", shape, lambda pool=pool, keys=keys: pool(**keys)
            pool = getattr(L, f"Global{kind}Pooling{n}D")
            yield f"Global{kind}Pooling{n}D", shape, pool
            yield f"Global{kind}Pooling{n}D keepdims", shape, lambda pool=pool: pool(keepdims=True)
            if hasattr(L, f"Adaptive{kind}Pooling{n}D"):
                pool = getattr(L, f"Adaptive{kind}Pooling{n}D")
                yield f"Adaptive{kind}Pooling{n}D", shape, lambda pool=pool: pool(2)
        yield f"UpSampling{n}D", shape, lambda n=n: getattr(L, f"UpSampling{n}D")(2)
        pad = {1: (2, 1), 2: ((1, 2), (3, 0)), 3: ((1, 2), (3, 0), (0, 1))}[n]
        yield f"ZeroPadding{n}D", shape, lambda n=n, pad=pad: getattr(L, f"ZeroPadding{n}D")(pad)
        yield f"ZeroPadding{n}D alike", shape, lambda n=n: getattr(L, f"ZeroPadding{n}D")(1)
        crop = {1: (2, 1), 2: ((1, 2), (3, 0)), 3: ((1, 2), (3, 0), (0, 1))}[n]
        yield f"Cropping{n}D", shape, lambda n=n, crop=crop: getattr(L, f"Cropping{n}D")(crop)
        yield f"SpatialDropout{n}D", shape, lambda n=n: getattr(L, f"SpatialDropout{n}D")(0.5)
    for n, shape in ((1, (11, 4)), (2, IMAGE)):
        for kind in ("Depthwise", "Separable"):
            cls = getattr(L, f"{kind}Conv{n}D")
            filters = {} if kind == "Depthwise" else {"filters": 5}
            for name, keys in {
                "valid": {},
                "same, strides": {"padding": "same", "strides": 2},
                "multiplier": {"depth_multiplier": 3, "activation": "relu"},
                "dilated": {"dilation_rate": 2, "padding": "same", "use_bias": False},
            }.items():
                keys = {"kernel_size": 3, **filters, **keys}
                yield f"{kind}Conv{n}D {name}", shape, lambda cls=cls, keys=keys: cls(**keys)


def _others():
    yield "Conv1D causal", SIGNAL, lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2)
    yield "Conv2D groups", IMAGE, lambda: L.Conv2D(6, 3, groups=2, activation="relu")
    yield "Conv1D groups", (11, 4), lambda: L.Conv1D(6, 3, groups=2, padding="same")
    for mode in ("bilinear", "bicubic"):
        yield f"UpSampling2D {mode}", IMAGE, lambda mode=mode: L.UpSampling2D((2, 3), interpolation=mode)
    yield "Dense", (5,), lambda: L.Dense(3)
    yield "Dense no bias", (5,), lambda: L.Dense(3, use_bias=False, activation="relu")
    yield "Dense softmax", (5,), lambda: L.Dense(3, activation="softmax")
    yield "Dense on signals", SIGNAL, lambda: L.Dense(4, activation="tanh")
    yield "Dense on images", IMAGE, lambda: L.Dense(4, activation="softmax")
    for shape in ((5,), SIGNAL, IMAGE):
        rank = len(shape)
        yield f"Flatten {rank}", shape, L.Flatten
        for axis in range(1, rank + 1):
            yield f"BatchNormalization {rank}, axis {axis}", shape, lambda a=axis: L.BatchNormalization(axis=a)
            yield (
                f"LayerNormalization {rank}, from axis {axis}",
                shape,
                lambda a=axis, r=rank: L.LayerNormalization(axis=list(range(a, r + 1))),
            )
            if hasattr(L, "UnitNormalization"):
                yield f"UnitNormalization {rank}, axis {axis}", shape, lambda a=axis: L.UnitNormalization(axis=a)
            yield f"Softmax {rank}, axis {axis}", shape, lambda a=axis: L.Softmax(axis=a)
        yield f"Dropout {rank}", shape, lambda: L.Dropout(0.5)
        yield f"PReLU {rank}", shape, L.PReLU
    # Keras on PyTorch cannot run a layer normalisation along neighbouring axes that are not the last.
    for shape, axis in ((SIGNAL, 1), (IMAGE, 1), (IMAGE, 2), (IMAGE, (1, 2)), (IMAGE, (3, 1)), (VOLUME, (1, 3))):
        if keras.config.backend() != "torch" or axis in ((3, 1), (1, 3)):
            name, make = f"LayerNormalization {len(shape)}, axes {axis}", lambda a=axis: L.LayerNormalization(axis=a)
            yield name, shape, make
    yield (
        "LayerNormalization, axes (1, 3), bare",
        IMAGE,
        lambda: L.LayerNormalization((1, 3), center=False, scale=False),
    )
    for shape, axis, groups in ((SIGNAL, 1, 11), (IMAGE, 1, 3), (IMAGE, 2, 2), (VOLUME, -2, 2), (VOLUME, 2, 1)):
        name = f"GroupNormalization {len(shape)}, axis {axis}"
        yield name, shape, lambda a=axis, g=groups: L.GroupNormalization(g, axis=a)
    yield "BatchNormalization no scale", IMAGE, lambda: L.BatchNormalization(scale=False)
    yield "BatchNormalization no center", (5,), lambda: L.BatchNormalization(center=False, epsilon=0.1)
    yield "BatchNormalization bare", SIGNAL, lambda: L.BatchNormalization(center=False, scale=False)
    yield "LayerNormalization bare", (5,), lambda: L.LayerNormalization(center=False, scale=False)
    yield "GroupNormalization", IMAGE, lambda: L.GroupNormalization(2)
    yield "GroupNormalization instance", SIGNAL, lambda: L.GroupNormalization(-1)
    if hasattr(L, "RMSNormalization"):
        yield "RMSNormalization", SIGNAL, L.RMSNormalization
        yield "RMSNormalization, axes (2, 3)", IMAGE, lambda: L.RMSNormalization(axis=(2, 3))
    for axis in ((1, 2), (1, 3), [-1, 1]):
        yield f"UnitNormalization, axes {axis}", IMAGE, lambda a=axis: L.UnitNormalization(axis=a)
    yield "Softmax several axes", IMAGE, lambda: L.Softmax(axis=(1, 3))
    yield "PReLU shared", IMAGE, lambda: L.PReLU(shared_axes=[1, 2])
    yield "PReLU shared rows", IMAGE, lambda: L.PReLU(shared_axes=[1])
    yield "ReLU", IMAGE, L.ReLU
    yield "ReLU max", (5,), lambda: L.ReLU(max_value=0.7)
    yield "ReLU 6", (5,), lambda: L.ReLU(max_value=6)
    yield "ReLU slope", (5,), lambda: L.ReLU(negative_slope=0.3)
    yield "ReLU all", (5,), lambda: L.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.4)
    yield "ReLU threshold", (5,), lambda: L.ReLU(threshold=0.4)
    yield "LeakyReLU", SIGNAL, lambda: L.LeakyReLU(0.2)
    yield "ELU", SIGNAL, lambda: L.ELU(0.7)
    yield "Reshape", (6, 4), lambda: L.Reshape((2, 3, 4))
    yield "Reshape rest", IMAGE, lambda: L.Reshape((6, -1))
    yield "Reshape flat", IMAGE, lambda: L.Reshape((-1,))
    yield "Permute", IMAGE, lambda: L.Permute((2, 3, 1))
    yield "RepeatVector", (5,), lambda: L.RepeatVector(3)
    yield "Rescaling", IMAGE, lambda: L.Rescaling(1 / 127.5, offset=-1.0)
    yield "Rescaling channels", IMAGE, lambda: L.Rescaling([0.1, 0.2, 0.3, 0.4], offset=[1.0, 2.0, 3.0, 4.0])
    yield "Normalization", (5,), L.Normalization
    yield "Normalization channels", IMAGE, L.Normalization
    yield "Normalization rows", IMAGE, lambda: L.Normalization(axis=(1, 3))
    yield "Normalization one number", IMAGE, lambda: L.Normalization(axis=None, mean=0.3, variance=2.0)
    yield "Normalization given", (3,), lambda: L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 0.0])
    yield "Normalization inverse", (5,), lambda: L.Normalization(invert=True)
    yield "GaussianNoise", (5,), lambda: L.GaussianNoise(1.0)
    yield "GaussianDropout", (5,), lambda: L.GaussianDropout(0.5)
    yield "AlphaDropout", (5,), lambda: L.AlphaDropout(0.5)
    yield "ActivityRegularization", (5,), lambda: L.ActivityRegularization(0.1)
    yield "Identity", (5,), L.Identity
    for name in ("RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast", "RandomBrightness"):
        keys = {"RandomFlip": {}, "RandomZoom": {"height_factor": 0.2}}.get(name, {"factor": 0.2})
        yield name, (6, 6, 3), lambda name=name, keys=keys: getattr(L, name)(**keys)
    yield "RandomTranslation", (6, 6, 3), lambda: L.RandomTranslation(0.1, 0.1)


def _merging():
    for name in ("Add", "Average", "Multiply", "Maximum", "Minimum"):
        cls = getattr(L, name)
        yield f"{name} tables", [(5,), (5,), (5,)], lambda *x, cls=cls: cls()(list(x))
        yield f"{name} images", [IMAGE, IMAGE], lambda *x, cls=cls: cls()(list(x))
        yield f"{name} broadcast", [IMAGE, (1, 1, 4)], lambda *x, cls=cls: cls()(list(x))
        yield f"{name} ranks", [IMAGE, (4,)], lambda *x, cls=cls: cls()(list(x))
    yield "Subtract", [IMAGE, IMAGE], several(L.Subtract())
    yield "Subtract ranks", [SIGNAL, (3,)], several(L.Subtract())
    yield "Concatenate tables", [(5,), (3,)], several(L.Concatenate())
    yield "Concatenate channels", [IMAGE, (9, 8, 2)], several(L.Concatenate())
    yield "Concatenate rows", [IMAGE, (3, 8, 4)], several(L.Concatenate(axis=1))
    yield "Concatenate columns", [IMAGE, (9, 5, 4)], several(L.Concatenate(axis=-2))
    yield "Concatenate mixed", [SIGNAL, (12,)], lambda x, y: L.Concatenate(axis=1)([x, L.Reshape((4, 3))(y)])
    yield "Dot tables", [(5,), (5,)], several(L.Dot(axes=1))
    yield "Dot matrices", [(4, 3), (3, 2)], several(L.Dot(axes=(2, 1)))
    yield "Dot rows", [(4, 3), (4, 2)], several(L.Dot(axes=1))
    yield "Dot vector", [(4, 3), (4,)], several(L.Dot(axes=1))
    yield "Dot deep", [(2, 4, 3), (3, 2)], several(L.Dot(axes=(3, 1)))
    yield "Dot cosine", [(5,), (5,)], several(L.Dot(axes=1, normalize=True))
    yield "Dot itself", [(4, 3)], lambda x: L.Dot(axes=2)([x, x])


LAYER_CASES = {name: (shape, lambda x, make=make: make()(x)) for name, shape, make in (*_spatial(), *_others())}
MERGING_CASES = {name: (shapes, apply) for name, shapes, apply in _merging()}
CASES = {**LAYER_CASES, **MERGING_CASES}


def last_first(x):
    return np.moveaxis(x, -1, 1) if x.ndim > 2 else x


def check(model, tolerance=1e-5, deeplift=True):
    """Compare predictions, and the sum of DeepLift with the difference of the outputs."""
    converter = Converter(model)
    rng = np.random.default_rng(7)
    xs = [rng.normal(size=(3, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    expected = model(xs if len(xs) > 1 else xs[0], training=False)
    expected = expected if isinstance(expected, list | tuple) else [expected]
    found = converter.model(*(torch.from_numpy(last_first(x)) for x in xs))
    for ours, theirs in zip(found, expected, strict=True):
        theirs = last_first(keras.ops.convert_to_numpy(theirs))
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()))
    if not deeplift:
        return converter
    refs = [rng.normal(size=(1, *x.shape[1:])).astype(np.float32) for x in xs]
    result = run_deeplift(
        converter,
        xs,
        x_ref=refs,
        channels_first=False,
        dtype="double",
        ignore_last_act=False,
        winner_takes_all=False,
        verbose=False,
    )
    at_x, at_ref = (
        converter.model_in("double")(*(torch.from_numpy(last_first(x)).double() for x in each)) for each in (xs, refs)
    )
    for i, row in enumerate(result.result):
        total = sum(t.flatten(1, -2).sum(1) for t in row if t is not None)
        torch.testing.assert_close(total, (at_x[i] - at_ref[i])[:, : total.shape[1]], rtol=0, atol=1e-8)
    return converter
