"""The documentation site: ``make docs`` builds it from the Markdown pages of this repository and from the docstrings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "airflow-provider-lamini"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]

# The source is the root of the repository, so that links between its pages work on the site as they do in a checkout.
root_doc = "docs/index"
include_patterns = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *("bench/README.md", "docs/**.md", "docs/**.rst"),
]

myst_heading_anchors = 4

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"{project} {release}"
html_extra_path = ["site"]  # the page that leads from the top folder to the start page
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


def skip_airflows_methods(
    _app: Sphinx, what: str, _name: str, member: object, skip: bool, _options: object
) -> bool:
    """Leave out what Airflow calls on operators and sensors: Dag authors only give arguments.

    :return: whether autodoc leaves the member out
    """
    ours = str(getattr(member, "__module__", "")).startswith(
        ("airflow_provider_lamini.operators", "airflow_provider_lamini.sensors")
    )
    return skip or (what == "class" and ours)


def setup(app: Sphinx) -> None:
    """Connect the function above to autodoc."""
    app.connect("autodoc-skip-member", skip_airflows_methods)
