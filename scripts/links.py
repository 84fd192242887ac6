"""A hook of MkDocs: links to files outside of `docs/` lead to their pages on the site.

So the same link also leads somewhere when the pages are read as files.
"""

from typing import Any

PAGES = {  # the site's pages include these files
    "../CONTRIBUTING.md": "contributing.md",
    "../SECURITY.md": "security.md",
    "../benchmarks/quality.md": "experiments.md",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page's text with the site's links."""
    for file, page in PAGES.items():
        markdown = markdown.replace(f"]({file}", f"]({page}")
    return markdown
