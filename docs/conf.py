"""The documentation site: ``make docs`` builds it from these pages and the docstrings.

No page is fetched from the network, and each warning of Sphinx is an error.
"""

from __future__ import annotations

from importlib.metadata import version as _version

project = "intake-tiffstack"
author = "The intake-tiffstack developers"
release = version = _version("intake-tiffstack")

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build", "README.md"]

# Markdown as GitHub shows it: anchors of headings, and links to pages by their path.
myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 3

# Notebooks show the outputs that are saved in them; tests/test_tutorial.py runs them.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give the types
numpydoc_show_class_members = False

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
