"""What takes no row of its own elsewhere: importing, weights at rest, attention over many tokens.

``python benchmarks/footprint.py`` writes ``results/footprint.csv``; ``--only import`` measures a part of it. Times are
those of the processor in fresh processes; memory is counted from torch's own allocations.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import large_calls
import large_models
import machine
import models
import pandas as pd
import torch

from innsight_py import Converter, run_grad

RESULTS = Path(__file__).parent / "results"
COLUMNS = ["bullet", "what", "of", "over", "asked", "minimum", "median", "maximum"]
Line = dict[str, object]


def line(bullet: str, what: str, of: str, over: str, asked: float, found: list[float]) -> Line:
    """Write a line in the form that `asked` reads: ratios, and the most that they may be."""
    facts = (bullet, what, of, over, asked, min(found), statistics.median(found), max(found))
    return dict(zip(COLUMNS, facts, strict=True))


# -- importing -------------------------------------------------------------------------------------------------------


#: Names of the package are loaded when they are first used, so what a call needs is named.
OWN, THEIRS = "from innsight_py import Converter, run_deeplift", "import torch, pandas"


def importing(statement: str) -> float:
    """Return the processor's seconds that an import takes in a fresh process."""
    code = f"import time; before = time.process_time(); {statement}; print(time.process_time() - before)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def imports(rounds: int = 3) -> Iterator[Line]:
    """Compare what a user of torch and pandas imports anyway with what this package imports."""
    for statement in (OWN, THEIRS):
        importing(statement)  # so that both are in the cache of files
    found = [importing(OWN) / importing(THEIRS) for _ in range(rounds)]
    yield line("Import", "time of the processor", OWN, THEIRS, 1.15, found)


# -- weights ---------------------------------------------------------------------------------------------------------


def storages() -> dict[int, int]:
    """Return the bytes of all tensors that are alive, each storage once."""
    gc.collect()
    found = {}
    for one in gc.get_objects():
        if type(one) in (torch.Tensor, torch.nn.Parameter) and one.device.type == "cpu":
            storage = one.untyped_storage()
            with contextlib.suppress(RuntimeError):  # tensors without numbers, left by an export
                found[storage.data_ptr()] = storage.nbytes()
    return found


def at_rest(dtype: torch.dtype) -> tuple[float, float]:
    """Return what a converter holds after a call, over the weights: alone, and together with the user's model."""
    before = sum(storages().values())
    model = models.frozen(models.resnet18(10)).to(dtype)
    weights = sum(storages().values()) - before
    converter = Converter(model, input_dim=(3, 64, 64))
    run_grad(converter, models.data(1, (3, 64, 64)), output_idx=[0], verbose=False)
    both = sum(storages().values()) - before
    del model
    return (sum(storages().values()) - before) / weights, both / weights


def rest() -> Iterator[Line]:
    """Compare the memory of weights."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        bullet = "Large models" if dtype == torch.float32 else "bfloat16 and half"
        alone, both = at_rest(dtype)
        what = f"memory at rest after a call, ResNet-18 in {name}"
        yield line(bullet, what, "the converter", "the model's weights", 1.05, [alone])
        yield line(bullet, what, "model and converter", "the model's weights", 2.05, [both])


# -- attention -------------------------------------------------------------------------------------------------------


def attention() -> Iterator[Line]:
    """Compare the peak of memory for ten outputs with that for one, over 1,024 tokens."""
    model, dim = large_models.build("tokens1024", 10)
    converter = Converter(model, input_dim=dim)
    x = torch.randn(1, *dim, generator=torch.Generator().manual_seed(1))
    for method in ("gradient", "deeplift", "lrp-attnlrp"):
        one, ten = (large_calls.peak(large_calls.ours(converter, x, method, outputs)) for outputs in (1, 10))
        what = f"peak of memory, {method}, 1,024 tokens ({one / 2**20:.0f} MiB for K = 1)"
        yield line("Attention", what, "K = 10", "K = 1", 1.5, [ten / one])


PARTS: dict[str, Callable[[], Iterator[Line]]] = {"import": imports, "rest": rest, "attention": attention}


def main() -> None:
    """Measure, print and write; parts that are not measured now stay as they were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    path = RESULTS / "footprint.csv"
    known = [pd.read_csv(path)] if path.exists() else []
    for part in chosen.only:
        for found in PARTS[part]():
            print(found, flush=True)
            known.append(pd.DataFrame([found]))
            whole = pd.concat(known, ignore_index=True)
            whole["key"] = whole["what"].str.partition(" (")[0]
            whole.drop_duplicates(["key", "of"], keep="last").drop(columns="key").to_csv(path, index=False)
            machine.note("footprint", machine.describe())


if __name__ == "__main__":
    main()
