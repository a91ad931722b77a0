"""Peaks of memory, counted from torch's own allocations, and how often a model is run for a call."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from innsight_py.model.graph import Graph

MIB = 2**20


def images(rows: int, pixels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 3, pixels, pixels, generator=torch.Generator().manual_seed(seed))


def peak(call) -> int:
    """Run a call and return the most bytes that torch held for it at one time, the result included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result = call()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    assert result is not None
    assert most > 0
    return most


def passes(monkeypatch) -> list[str]:
    """Note from now on, by name, the passes and the walks back of all graphs."""
    done: list[str] = []

    def noting(name):
        plain = getattr(Graph, name)
        return lambda *args, **keys: done.append(name) or plain(*args, **keys)

    for name in ("forward", "trace", "backward"):
        monkeypatch.setattr(Graph, name, noting(name))
    return done
