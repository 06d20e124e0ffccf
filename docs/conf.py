"""Configure the documentation site; `make docs` builds it into `site/`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # the fastdc of this checkout, and the generator `fastdc_docs`

import fastdc  # noqa: E402

project = "fastdc"
author = copyright = "The fastdc developers"
version = release = fastdc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "fastdc_docs"]
exclude_patterns = ["extend/examples"]

myst_enable_extensions = ["colon_fence", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"fastdc {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_math_renderer = "mathml"  # the browser draws formulas without a script, so the site works offline

default_role = "literal"  # docstrings write `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpy's aliases would fill lines; the docstrings give dtypes, shapes and units
napoleon_attr_annotations = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
