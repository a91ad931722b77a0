"""How sphinx builds the site: ``nox -s docs``."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("KERAS_BACKEND", "torch")  # of the kernels that run the vignettes
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm asks for widgets in notebooks

import pages  # noqa: E402 (lies beside this file, as does the next)
import rooms  # noqa: E402
from numpydoc import xref  # noqa: E402

import innsight_py  # noqa: E402

pages.write(HERE / "generated")
(HERE / "generated" / "rooms.svg").write_text(rooms.picture())

project = "innsight_py"
version = release = version_of("innsight_py")
extensions = [
    "sphinx.ext.autodoc",
    "offline_math",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}

# -- executed pages ---------------------------------------------------------------------------------------------------
nb_execution_mode = "force"
nb_execution_timeout = 600  # seconds a cell; on a machine that does something else as well
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# -- reference --------------------------------------------------------------------------------------------------------
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # but for names of ours: the site is read offline
xref.DEFAULT_LINKS.clear()
numpydoc_xref_aliases = {name: f"innsight_py.{name}" for name in innsight_py.__all__}
numpydoc_xref_aliases |= {"Residual": "innsight_py.results.completeness.Residual"}
numpydoc_xref_aliases |= {name.rpartition(".")[2]: f"innsight_py.{name}" for name in pages.PLOTS}
default_role = "py:obj"

# -- look -------------------------------------------------------------------------------------------------------------
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"innsight_py {version}"
html_static_path = ["_static", "generated/_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False


def _public_bases(app: Any, name: str, obj: Any, options: Any, bases: list[type]) -> None:
    """Name the nearest base class that has a page."""
    bases[:] = [pages.public_base(obj) or bases[0]]


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out constants of classes, which are for those who write a method."""
    return True if what == "class" and isinstance(obj, str | bool | float | int | None) else None


def setup(app: Any) -> None:
    """Register what the reference shows."""
    app.connect("autodoc-process-bases", _public_bases)
    app.connect("autodoc-skip-member", _skip)
