"""Write docs/licences.md: what the package is made of, and under which terms.

python packaging/licences.py, in an environment where the package is installed.
"""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/licences.md"

HEAD = """# Licences

kvae is under the [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0). None of
what it is made of or needs asks for more than that its notice is kept. Written by
`packaging/licences.py`; `cargo deny check` (`deny.toml`) holds the crates against a list
of licences, advisories and sources.

"""


def crates() -> dict[str, tuple[str, str]]:
    """Name to version and licence of every crate that is linked into the extension."""
    command = ["cargo", "tree", "--locked", "--features", "python", "-e", "normal"]
    command += ["--prefix", "none", "--format", "{p}\t{l}"]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = {}
    for line in text.splitlines():
        match = re.match(r"(\S+) v(\S+).*\t(.*)", line.removesuffix(" (*)"))
        if match and match[1] != "kvae":
            found[match[1]] = (match[2], match[3].removesuffix(" (*)"))
    return found


def packages() -> dict[str, tuple[str, str]]:
    """Name to lower bound and licence of every package that is installed with kvae."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for requirement in project["dependencies"]:
        name, bound = re.match(r"([\w.-]+)(.*)", requirement).groups()
        found[name] = (bound.split(";")[0].strip(), licence_of(name))
    return found


def licence_of(name: str) -> str:
    """Read what a package says of itself: an expression, or else its classifier."""
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError:
        sys.exit(f"{name} is not installed")
    text = metadata.get("License-Expression") or metadata.get("License") or ""
    if text and len(text) < 60 and "\n" not in text:
        return text
    classifiers = metadata.get_all("Classifier") or []
    licences = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")]
    return ", ".join(licences) or text.splitlines()[0]


def table(head: str, rows: dict[str, tuple[str, str]]) -> str:
    """Rows by name."""
    lines = [f"| {head} | version | licence |", "|---|---|---|"]
    lines += [f"| {name} | {version} | {text} |" for name, (version, text) in sorted(rows.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    text = HEAD
    text += "## Crates of the extension\n\n" + table("crate", crates())
    text += "\n## Installed with the package\n\n" + table("package", packages())
    PAGE.write_text(text)
    print(json.dumps({"page": str(PAGE), "lines": text.count("\n")}))


if __name__ == "__main__":
    main()
