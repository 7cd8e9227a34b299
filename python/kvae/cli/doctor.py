"""``kvae doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvae.cli.common import Json, paint

if TYPE_CHECKING:
    from kvae.checkup import Checkup


def doctor(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where outputs would go.")
    ] = Path(),
    json: Json = False,
) -> None:
    """Look at this machine: versions, instructions, threads, memory, devices, disk.

    Says what a run would use, and what is in its way. The exit code is 1 where
    something keeps kvae from working.
    """
    from kvae.checkup import doctor as run_doctor

    found = run_doctor(folder)
    if json:
        typer.echo(found.as_json())
    else:
        _print(found)
    if not found.works:
        raise typer.Exit(1)


def _print(found: Checkup) -> None:
    lines = list(_lines(found.facts))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        typer.echo(f"{name:<{width}}  {text}")
    typer.echo("")
    for line in found.problems:
        typer.echo(paint(f"problem: {line}", typer.colors.RED))
    for line in found.advice:
        typer.echo(f"note: {line}")
    if found.works:
        typer.echo("kvae works here.")


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    packages, cpu, simd = facts["packages"], facts["processor"], facts["simd"]
    yield "kvae", f"{packages['kvae']}, Python {packages['python']}, {packages['platform']}"
    yield "packages", ", ".join(f"{k} {v or 'MISSING'}" for k, v in packages["required"].items())
    for name, extra in packages["extras"].items():
        have = "installed" if extra["installed"] else f"not installed: pip install 'kvae[{name}]'"
        yield f"kvae[{name}]", f"{have}; {extra['for']}"
    yield "instructions", f"{simd['active'] or '-'} (works here: {', '.join(simd['available'])})"
    limits = [f"{cpu['cpus']} CPUs", f"affinity {cpu['affinity']}"]
    if cpu["cgroup"] is not None:
        limits.append(f"control group {cpu['cgroup']:g}")
    yield "threads", f"{cpu['threads']} ({', '.join(limits)}; {cpu['name']})"
    yield "memory", _memory(facts["memory"])
    yield from _devices(facts["devices"])
    folder = facts["folder"]
    free = "-" if folder["free"] is None else _size(folder["free"])
    direct = "past the page cache" if folder["direct"] else "through the page cache"
    yield "folder", f"{folder['path']}: {free} free, written {direct}"


def _memory(memory: dict[str, Any]) -> str:
    names = (("total", "in all"), ("available", "available"), ("cgroup", "in the control group"))
    return ", ".join(f"{_size(memory[key])} {name}" for key, name in names if memory[key])


def _devices(devices: dict[str, Any]) -> Iterator[tuple[str, str]]:
    build = devices["cuda_build"] or devices["hip_build"]
    yield "torch for", f"CUDA {build}" if build else "the CPU"
    for i, device in enumerate(devices["cuda"]):
        yield (
            f"cuda:{i}",
            f"{device['name']}, capability {device['capability']}, {_size(device['free'])} of "
            f"{_size(device['memory'])} free",
        )
    run = devices["run"]
    if run is not None:
        compiled = ", compiled" if run["compile"] else ""
        yield "a run takes", f"{run['device']}, {run['precision']}{compiled}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
