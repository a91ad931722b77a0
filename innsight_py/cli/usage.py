"""Messages about a command line that cannot be read. They guess what the user meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from innsight_py._checks import suggestion
from innsight_py._errors import see

#: What an instance is compared with, by name.
REFERENCES = ("zeros", "center", "mean", "median", "data")
#: What others call references, methods and options.
_MEANT = {
    "average": "mean", "avg": "mean", "zero": "zeros", "0": "zeros", "black": "zeros", "all": "data", "med": "median",
    "integrated_gradients": "intgrad", "integratedgradients": "intgrad", "integrated_gradient": "intgrad",
    "integrated-gradients": "intgrad", "ig": "intgrad", "gradients": "grad", "gradient": "grad", "saliency": "grad",
    "gradientshap": "expgrad", "gradient_shap": "expgrad", "expected_gradients": "expgrad", "deep_shap": "deepshap",
    "deepliftshap": "deepshap", "kernelshap": "shap", "kernel_shap": "shap", "noise_tunnel": "smoothgrad",
    "connection_weights": "cw", "connectionweights": "cw",
    "float64": "double", "float32": "float", "single": "float",
    "--baseline": "--reference", "--baselines": "--reference", "--class": "--output-label",
    "--label": "--output-label", "--output": "--result", "--out": "--result", "--save": "--result",
    "--input-shape": "--input-dim", "--shape": "--input-dim", "--picture": "--plot", "--param": "--set",
}  # fmt: skip


def meant(word: str, known: Iterable[str]) -> str:
    """End a sentence, with the word that was meant where it can be guessed.

    Examples
    --------
    >>> meant("average", REFERENCES), meant("zeroes", REFERENCES), meant("?", REFERENCES)
    ("; did you mean 'mean'?", "; did you mean 'zeros'?", '.')
    """
    known = list(known)
    own = _MEANT.get(word.lower())
    return f"; did you mean '{own}'?" if own in known else suggestion(word, known)


def usage_text(message: str) -> str:
    """Write what the command-line library says of a command line, in one line, and add what was meant.

    Examples
    --------
    >>> usage_text("Invalid value for '-m': 'lrpp' is not one of 'lrp', 'shap'.")
    "Invalid value for '-m': 'lrpp' is not one of 'lrp', 'shap'; did you mean 'lrp'? (--help helps). See \
docs/errors.md#command-line"
    """
    text = " ".join(message.split()).replace("Value error, ", "").replace("Input should be", "expected")
    choice = re.search(r"'([^']*)' is not one of (('[^']*'(, )?)+)\.?$", text)
    option = re.match(r"No such option: (--[\w-]+)", text)
    if choice:
        text = text.rstrip(".") + meant(choice[1], re.findall(r"'([^']*)'", choice[2]))
    elif option and option[1] in _MEANT and "did you mean" not in text.lower():
        text = f"{option[0]}; did you mean '{_MEANT[option[1]]}'?"
    return see("command-line", f"{text} (--help helps)")


def check_reference(reference: str | None, endings: Iterable[str]) -> None:
    """Refuse a reference that is no word that we know and no file.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if reference is None or reference in REFERENCES or Path(reference).suffix.lower() in endings or reference == "-":
        return
    if not Path(reference).exists():
        raise ValueError(
            f"--reference {reference}: expected {', '.join(REFERENCES)} or a file{meant(reference, REFERENCES)}"
        )


def check_order(model: Path, data: Sequence[Path], models: Iterable[str], tables: Iterable[str]) -> None:
    """Refuse data in the place of the model.

    Raises
    ------
    ValueError
        If the two are swapped.
    """
    if model.suffix.lower() in tables and len(data) == 1 and data[0].suffix.lower() in models:
        raise ValueError(f"the model comes first, then the data: {data[0]} {model}")
