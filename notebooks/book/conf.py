"""Sphinx's settings. ``notebooks.book`` calls Sphinx with the assembled sources and this folder as configuration."""

from pathlib import Path

project = "Photo-realistic image restoration, hands on"
author = copyright = "the authors of the course (text and code: MIT)"
language = "en"
extensions = ["myst_nb", "sphinx.ext.mathjax"]
exclude_patterns = ["**/.ipynb_checkpoints"]

nb_execution_mode = "off"  # the stored outputs are shown
nb_ipywidgets_js = {}  # no widget of Jupyter on any page, see notebooks.book.copies
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_update_mathjax = True

python_maximum_signature_line_length = 100
toc_object_entries = False
suppress_warnings = ["ref.python"]  # two modules may have a class of the same name, which signatures mention

mathjax_path = "mathjax/tex-chtml-full.js"

html_theme = "sphinx_book_theme"
html_title = "Image restoration, hands on"
html_favicon = "static/favicon.svg"
html_css_files = ["panes.css", "book.css"]
html_js_files = [("panes.js", {"defer": "defer"}), ("panels.js", {"defer": "defer"})]
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_copy_source = html_show_sourcelink = False
html_use_index = html_domain_indices = False  # the search finds functions by name
html_theme_options = {
    "use_download_button": False,
    "use_source_button": False,
    "use_repository_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navigation_with_keys": False,
    "navbar_start": [],
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
}


def _static(app, config) -> None:
    config.html_static_path = [str(Path(app.srcdir) / "_static")]


def setup(app) -> None:
    app.connect("config-inited", _static)
