"""Versions of what kvae is made of, and what could be installed beside it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["EXTRAS", "package_facts"]

REQUIRED = (
    "torch",
    "numpy",
    "pyarrow",
    "scipy",
    "scikit-learn",
    "safetensors",
    "pydantic",
    "matplotlib",
    "tensorboard",
    "typer",
    "rich",
)
# The optional dependencies of the package, and what each is for.
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "anndata": (("anndata", "h5py"), "files for anndata and scanpy (.h5ad)"),
    "onnx": (("onnx", "onnxscript"), "encoders for other runtimes (.onnx)"),
    "ray": (("ray",), "shards on a Ray cluster"),
    "umap": (("umap-learn",), "maps of latents by UMAP"),
}


def package_facts() -> dict[str, Any]:
    """Versions by name, None where a package is not installed."""
    import kvae

    return {
        "kvae": kvae.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "required": {name: _version(name) for name in REQUIRED},
        "extras": {
            extra: {
                "for": purpose,
                "packages": {name: _version(name) for name in names},
                "installed": all(_version(name) for name in names),
            }
            for extra, (names, purpose) in EXTRAS.items()
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
