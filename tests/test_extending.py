"""The documentation's own decoder, as the documentation says to write it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from in_process import kvae
from kvae.config import ReadoutConfig
from kvae.errors import KvaeError
from kvae.plugins import load_plugin
from sequences import PROJECT

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, feature_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the page's files, that forgets what was registered in it."""
    kinds, modules = dict(ReadoutConfig.kinds), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "feats.arrow").symlink_to(feature_file)
    (tmp_path / "mixture.py").write_text(blocks("python")[0])
    yield tmp_path
    ReadoutConfig.kinds.clear()
    ReadoutConfig.kinds.update(kinds)
    for name in set(sys.modules) - modules:
        if name == "mixture" or name.startswith("kvae_plugin:"):
            del sys.modules[name]


def test_the_page_adds_a_decoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (commands,) = blocks("sh")
    for line in commands.splitlines():
        assert kvae(line, monkeypatch) == 0, line
    config = json.loads((folder / "mixture" / "config.json").read_text())
    readout = config["model"]["decoder"]["sparse"]["readout"]
    assert readout == {"kind": "mixture", "profiles": 16}
    latent = np.load(folder / "latent.npz")["latent"]
    assert np.isfinite(latent).all()
    losses = [
        json.loads(line)["train"]["loss"]
        for line in (folder / "mixture" / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(losses) == 2
    assert losses[1] < losses[0]


def test_the_page_uses_it_from_python(folder: Path) -> None:
    exec(compile(blocks("python")[1], "extending.md", "exec"), {})
    config = json.loads((folder / "again" / "config.json").read_text())
    assert config["model"]["decoder"]["sparse"]["readout"]["profiles"] == 32


def test_without_its_plugin_a_run_says_what_it_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "kvae train feats.arrow --set decoder.kind=mixture"
    assert kvae(line, monkeypatch) == 1
    message = capsys.readouterr().err
    assert "unknown readout kind 'mixture', known: conv, dense, dot" in message
    assert "--plugin" in message
    assert message.count("\n") == 1


def test_plugins_come_from_the_environment_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVAE_PLUGINS", "mixture")
    line = "kvae train feats.arrow --set decoder.kind=mixture --set profiles=0.5"
    assert kvae(line, monkeypatch) == 1
    assert "mixture" in ReadoutConfig.kinds


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py", "missing.py: no such file"),
        ("missing", "missing: no such module; a file is given by its path, such as missing.py"),
        ("missing.part", "no such module"),
    ],
)
def test_a_plugin_that_is_not_there(folder: Path, name: str, message: str) -> None:
    with pytest.raises(KvaeError, match=message):
        load_plugin(name)


def test_mistakes_in_a_plugin_keep_their_traceback(folder: Path) -> None:
    (folder / "broken.py").write_text("import nothing_like_this")
    for name in ("broken.py", "broken"):
        with pytest.raises(ModuleNotFoundError, match="nothing_like_this"):
            load_plugin(name)


def test_a_file_never_takes_the_place_of_a_module(folder: Path) -> None:
    (folder / "torch.py").write_text("x = 1")
    import torch

    load_plugin("torch.py")
    load_plugin("torch.py")
    assert sys.modules["torch"] is torch
