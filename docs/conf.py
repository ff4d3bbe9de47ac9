"""The documentation as a site: ``make site`` writes it into site/, warnings are errors."""

from roicli.core.version import __version__

project = "roicli"
author = "The roicli developers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["figures"]
# A flag begins with two dashes.
smartquotes = False
nitpicky = True
# Types of other packages, whose pages this site does not reach for; and the parts of annotations.
nitpick_ignore_regex = [(r"py:.*", r"(?!roicli\b).*"), (r"py:.*", r"roicli\.(?!ops).*")]

myst_enable_extensions = ["colon_fence"]
# `# Heading` is a link of its page, as on the places that show Markdown themselves.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"roicli {__version__}"
html_show_sphinx = False
html_static_path = ["figures"]
html_theme_options = {
    "source_repository": "https://github.com/roicli/roicli",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
