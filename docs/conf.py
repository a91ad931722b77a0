"""How sphinx builds the site: ``nox -s docs``."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("KERAS_BACKEND", "torch")  # of the kernels that run the vignettes
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm asks for widgets in notebooks

import pages  # noqa: E402 (lies beside this file)

pages.write(HERE / "generated")

project = "innsight_py"
version = release = version_of("innsight_py")
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "offline_math",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}

# -- executed pages ---------------------------------------------------------------------------------------------------
nb_execution_mode = "force"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# -- reference --------------------------------------------------------------------------------------------------------
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
default_role = "py:obj"

# -- look -------------------------------------------------------------------------------------------------------------
templates_path = ["_templates"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"innsight_py {version}"
html_static_path = ["_static", "generated/_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
