"""Pages that live outside this folder, because they are read there as well: links in them lead where they lead there.

A link to a page of this site becomes one to that page; a link to any other file of the repository becomes its name. Links to them
lead to where they live, so that they can be followed in the repository too; here they become links to the page that has them.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
PAGES = {
    "README.md": "start.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "MIGRATING.md": "guides/migrating.md",
    "CHANGELOG.md": "changes.md",
    "mpccomm/protocol/PROTOCOL.md": "protocol.md",
}
"""Where each is included."""
_LINK = re.compile(r"\[([^\]\n]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def translated(text: str, folder: Path, page: Path) -> str:
    """The text of a file in that folder, as part of that page."""

    def replaced(link: re.Match[str]) -> str:
        words, path, anchor = link.groups(default="")
        target = os.path.relpath(folder / path, ROOT).replace(os.sep, "/")
        # The notebooks are here by a link.
        found = DOCS / PAGES.get(target, target.removeprefix("docs/"))
        if not found.is_file():
            return words
        if target.startswith("notebooks/"):
            return f"{{doc}}`{words} </{target.removesuffix('.ipynb')}>`"
        up = Path(*[".."] * len(page.parent.relative_to(DOCS).parts))
        return f"[{words}]({(up / found.relative_to(DOCS)).as_posix()}{anchor})"

    return _LINK.sub(replaced, text)


def led_to_pages(text: str, page: Path) -> str:
    """The text of a page of this site, whose links to files outside lead to the pages that include them."""

    def replaced(link: re.Match[str]) -> str:
        words, path, anchor = link.groups(default="")
        target = PAGES.get(os.path.relpath(page.parent / path, ROOT).replace(os.sep, "/"))
        if target is None:
            return link[0]
        return f"[{words}]({os.path.relpath(DOCS / target, page.parent).replace(os.sep, '/')}{anchor})"

    return _LINK.sub(replaced, text)


def _read(app: Sphinx, docname: str, content: list[str]) -> None:
    page = DOCS / f"{docname}.md"
    if page.is_file():
        content[0] = led_to_pages(content[0], page)


def _include(app: Sphinx, relative_path: Path, parent: str, content: list[str]) -> None:
    # Sphinx tells the path relative to the folder of sources.
    path = (DOCS / relative_path).resolve()
    if not path.is_relative_to(DOCS):
        content[0] = translated(content[0], path.parent, DOCS / f"{parent}.md")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("include-read", _include)
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
