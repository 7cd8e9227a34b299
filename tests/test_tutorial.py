"""The tutorial, as it stands: typed into a shell and Python in an empty folder."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from sequences import PROJECT

PAGE = (PROJECT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def test_the_tutorial_works_as_it_stands(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    bin_folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    said: list[str] = []
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```(console|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    for language, text in blocks:
        if language == "python":
            with redirect_stdout(io.StringIO()) as out:
                exec(compile(text, "tutorial.md", "exec"), names)
            said.append(out.getvalue())
            continue
        for line in text.splitlines():
            assert line.startswith("$ kvae "), line
            done = subprocess.run(
                line.removeprefix("$ "),
                shell=True,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, (line, done.stderr)
    clusters, contigs, ari = re.findall(
        r"(\d+) clusters of ([\d,]+) contigs, ARI ([\d.]+)", said[-1]
    )[0]
    assert 10 <= int(clusters) <= 18
    assert int(contigs.replace(",", "")) > 1000
    assert float(ari) > 0.9
    assert (tmp_path / "kvae-demo" / "demo.png").exists()
    assert len(list((tmp_path / "bins").iterdir())) == int(clusters)
