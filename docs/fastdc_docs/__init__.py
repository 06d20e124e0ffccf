"""Generate the pages of the documentation that must not go stale: methods, the packages and their drawing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdc_docs.architecture import architecture_pages
from fastdc_docs.method_pages import method_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: "Sphinx") -> dict[str, Any]:
    """Generate the pages before Sphinx looks for its sources, and draw formulas as MathML."""
    from fastdc_docs import mathml

    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    app.add_html_math_renderer("mathml", (mathml.inline, None), (mathml.block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_pages(docs: Path) -> None:
    """Write the generated pages below `docs`, and remove those of methods that are gone."""
    pages = {docs / name: text for name, text in (method_pages() | architecture_pages()).items()}
    for stale in set((docs / "methods").glob("*.md")) - set(pages):
        stale.unlink()
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:  # an unchanged page is not read again
            path.write_text(text)
