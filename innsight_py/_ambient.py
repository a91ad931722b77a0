"""What a caller may have switched on around a call, and how a call is kept from depending on it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

#: Kinds of devices for which ``torch.autocast`` may be at work.
_DEVICES = ("cpu", "cuda", "mps", "xpu")
#: Counts what is around calls of torch; a default device is one of these. Torch's own question for it takes longer.
_around = getattr(torch._C, "_len_torch_function_stack", lambda: 1)
#: Tells whether autocast is at work for any kind of device.
_casts = getattr(torch._C, "_is_any_autocast_enabled", lambda: any(map(torch.is_autocast_enabled, _DEVICES)))


@contextlib.contextmanager
def neutral() -> Iterator[None]:
    """Compute as if nothing was switched on around: no autocast, no other default device, no other default dtype.

    Inference mode is left as well, since what is built in it could not be differentiated later.

    Examples
    --------
    >>> with torch.autocast("cpu"), neutral():
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield


def is_neutral() -> bool:
    """Tell whether nothing is switched on that `neutral` would switch off.

    Examples
    --------
    >>> with torch.autocast("cpu"):
    ...     is_neutral()
    False
    """
    return (
        torch.get_default_dtype() is torch.float32
        and not torch.is_inference_mode_enabled()
        and not _casts()
        and (not _around() or torch.get_default_device().type == "cpu")
    )


def in_neutral_state(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute in the state that `neutral` makes."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with neutral():
            return function(*args, **kwargs)

    return wrapper
