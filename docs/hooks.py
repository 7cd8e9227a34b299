"""Pages of the site that are written elsewhere: by the program, or beside the code.

The commands' page is what the program says of itself. Pages beside the code become
pages of the site, and links to them lead there.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).parent.parent

# Page of the site, and the file of the project that it is.
ELSEWHERE = {
    "architecture.md": "ARCHITECTURE.md",
    "benchmarks.md": "benches/README.md",
    "changes.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "pretrained.md": "python/kvae/pretrained/MODEL_CARD.md",
}
_LINK = re.compile(r"\]\((?P<target>[^)#:]+)(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in the folder of the documentation."""
    for page, source in ELSEWHERE.items():
        text = (PROJECT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_rewritten(text, source)))
    files.append(File.generated(config, "commands.md", content=_commands()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links out of the documentation's folder to the pages that stand for their files."""
    if page.file.src_uri in ELSEWHERE:
        return markdown
    return _rewritten(markdown, f"docs/{page.file.src_uri}")


def _rewritten(text: str, source: str) -> str:
    pages = {file: page for page, file in ELSEWHERE.items()}

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["target"]))
        path = pages.get(path.removesuffix("/"), path.removeprefix("docs/"))
        return f"]({path}{match['anchor'] or ''})"

    return _LINK.sub(link, text)


def _commands() -> str:
    """Describe all commands as `kvae --help` does, in Markdown."""
    command = [sys.executable, "-m", "typer", "kvae.cli", "utils", "docs", "--name", "kvae"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PROJECT)
    return done.stdout.replace("# `kvae`", "# Commands", 1)
