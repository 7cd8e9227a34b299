"""Shards made and encoded by the workers of a Ray cluster.

Every shard is one task: a worker writes it with its manifest to a folder that all
machines see, and gives the manifest back. What is there already is not made again, so a
run may be repeated, and a worker that is lost takes nothing with it: its shard is given
to another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvae import defaults
from kvae.errors import KvaeError
from kvae.featurizing import DEFAULT_KS, DEFAULT_MIN_LENGTH, DEFAULT_WINDOW, Paths
from kvae.optional import require
from kvae.progress import Progress
from kvae.remote import local_files, share_of_inputs, told_of
from kvae.remote.uris import RemotePath, as_path
from kvae.sharding import find_manifest
from kvae.shards import ShardName, check_files, find_manifests

if TYPE_CHECKING:
    from kvae.model import KmerVAE

__all__ = ["encode_ray", "featurize_ray"]

# Times that a shard is given to another worker, or a worker is started anew.
RETRIES = 3
_BYTES_PER_SHARD = 1 << 28

# Called with the number of every shard by the worker that makes it, before it does.
Hook = Callable[[int], None]


def featurize_ray(
    inputs: Paths,
    output: str | os.PathLike[str] = "feats",
    *,
    shards: int | None = None,
    k: Sequence[int] = DEFAULT_KS,
    window: int = DEFAULT_WINDOW,
    min_length: int = DEFAULT_MIN_LENGTH,
    store: str = "log",
    sequence: bool = True,
    skip_bad: bool = False,
    threads: int = 1,
    address: str | None = None,
    retries: int = RETRIES,
    force: bool = False,
    progress: Progress | None = None,
    before: Hook | None = None,
) -> list[dict[str, Any]]:
    """Featurize shards by the workers of a Ray cluster.

    Parameters
    ----------
    inputs, k, window, min_length, store, sequence, skip_bad
        As for `kvae.featurize`. All machines see the inputs by the same paths.
    output
        Folder for shards, on a file system that all machines see, or its URI.
    shards
        How many; as many as CPUs of the cluster where omitted, more of large inputs.
    threads
        CPUs of a task.
    address
        Of the cluster: that of ``ray.init``, such as ``auto``. A cluster of this machine
        is started, and ended, where omitted, unless ray runs already.
    retries
        Times that a shard is given to another worker after one was lost.
    force
        Make all shards anew.
    progress
        Told about the rows of every shard.
    before
        Called by the worker, with the number of its shard, before it is made.

    Returns
    -------
    list of dict
        The manifests of all shards, in order.

    Raises
    ------
    KvaeError
        Those of `kvae.featurize` for any shard, and if ray is not installed or a shard
        was lost too often. Shards that are whole stay.
    """
    progress = progress or Progress()
    paths = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    absolute = [os.fspath(path) for path in paths]
    given = as_path(output)
    folder = given if isinstance(given, RemotePath) else given.absolute()
    options = {
        "k": tuple(k),
        "window": window,
        "min_length": min_length,
        "store": store,
        "sequence": sequence,
        "skip_bad": skip_bad,
        "threads": threads,
        "force": force,
    }
    with _cluster(address) as ray:
        count = shards or _shards_of(absolute, int(ray.cluster_resources().get("CPU", 1)))
        progress.message(f"{count} shards on {ray.cluster_resources().get('CPU', 0):.0f} CPUs")
        task = ray.remote(num_cpus=threads, max_retries=retries)(_featurize_one)
        here = os.getcwd()
        refs = {
            task.remote(absolute, _for_workers(folder), (i, count), options, here, before): i
            for i in range(1, count + 1)
        }
        progress.begin("featurizing shards", count)
        for _ in _results(ray, refs, "shard", count):
            progress.advance(1)
    names = [ShardName(i, count).stem for i in range(1, count + 1)]
    manifests = [find_manifest(folder / f"{name}.json") for name in names]
    if None in manifests:
        raise KvaeError(f"{folder}: a manifest that was written is not there any more: start again")
    return [manifest for manifest in manifests if manifest is not None]


def encode_ray(
    model: str | Path,
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] = "latents",
    *,
    workers: int | None = None,
    with_logvar: bool = False,
    batch_size: int = defaults.ENCODE_BATCH_SIZE,
    device: str = "auto",
    threads: int = 1,
    gpus: float = 0.0,
    address: str | None = None,
    retries: int = RETRIES,
    force: bool = False,
    progress: Progress | None = None,
    before: Hook | None = None,
) -> list[Path]:
    """Encode shards by the workers of a Ray cluster, each of which loads the model once.

    Parameters
    ----------
    model, with_logvar, batch_size, device
        As for `kvae.encode`. All machines see the model.
    shards
        Folder of shards, or their files; all of a set. Where they are URIs each worker
        fetches the shards that it encodes, and this process their manifests.
    output
        Folder for latents: ``latent-0001-of-0032.arrow`` and so on, rows in the order of
        the shards. Files of the same model are not made again.
    workers
        How many; as many as there is room for where omitted.
    threads, gpus
        CPUs and GPUs of a worker.
    address, retries, force, progress, before
        As for `featurize_ray`.

    Returns
    -------
    list of Path
        The files of all shards with rows, in order.

    Raises
    ------
    KvaeError
        Those of `kvae.encode` for any shard, a folder with latents of another model
        without ``force``, and if ray is not installed or a worker was lost too often.
    """
    progress = progress or Progress()
    given = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    if isinstance(as_path(output), RemotePath):
        raise KvaeError(
            f"{as_path(output)}: latents of shards go to a folder that all machines see:"
            " write them there, and copy them"
        )
    # Of remote shards the manifests: the rest is the workers' to fetch, and to verify.
    paths, origins = local_files(given, progress=progress, choose=lambda _: [])
    with told_of(origins):
        found = find_manifests(paths)
        check_files(
            [shard for shard in found.shards if str(shard.path.parent) not in origins], verify=True
        )
    folder = as_path(output).absolute()
    if not folder.parent.is_dir():
        raise KvaeError(f"{output}: the folder {folder.parent} does not exist: create it first")
    folder.mkdir(exist_ok=True)
    jobs = [
        (
            int(shard.manifest["shard"]),
            _for_workers(origin / shard.path.name if origin else shard.path.absolute()),
            str(_latents(folder, shard.path)),
        )
        for shard in found.filled
        for origin in [origins.get(str(shard.path.parent))]
    ]
    if not jobs:
        raise KvaeError(f"{found.shards[0].path}: no row is left in this shard and the others")
    options = {
        "with_logvar": with_logvar,
        "batch_size": batch_size,
        "device": device,
        "threads": threads,
        "force": force,
    }
    name = str(model) if not Path(model).exists() else str(Path(model).absolute())
    with _cluster(address) as ray:
        room = int(ray.cluster_resources().get("CPU", 1)) // max(threads, 1)
        if gpus:
            room = min(room, int(ray.cluster_resources().get("GPU", 0) // gpus))
        if room < 1:
            raise KvaeError("the cluster has no worker with so many CPUs and GPUs: ask for fewer")
        n_workers = min(workers or room, len(jobs))
        actor = ray.remote(
            num_cpus=threads, num_gpus=gpus, max_restarts=retries, max_task_retries=retries
        )(_Encoder)
        progress.begin("encoding shards", len(jobs))
        encoders = [actor.remote(name, options) for _ in range(n_workers)]
        refs = {
            encoders[i % n_workers].encode.remote(number, path, target, before): number
            for i, (number, path, target) in enumerate(jobs)
        }
        for _ in _results(ray, refs, "shard", len(found.shards)):
            progress.advance(1)
    return [Path(target) for _, _, target in jobs]


def _for_workers(path: Path) -> str:
    """Write a path or URI as those need it who open it."""
    return path.uri.full if isinstance(path, RemotePath) else str(path)


def _latents(folder: Path, shard: Path) -> Path:
    return folder / f"latent-{shard.stem.removeprefix('feats-')}.arrow"


def _shards_of(paths: Sequence[str], cpus: int) -> int:
    """Choose a number of shards: some for every CPU, none too long."""
    n_bytes = int(share_of_inputs(paths, 1, 1, True)["bytes"])
    return max(1, cpus, n_bytes // _BYTES_PER_SHARD)


def _featurize_one(
    paths: Sequence[str],
    folder: str,
    shard: tuple[int, int],
    options: dict[str, Any],
    directory: str,
    before: Hook | None,
) -> int:
    """Make one shard, by a worker."""
    from kvae.featurizing import featurize

    # Inputs are named as they were where the run was started.
    os.chdir(directory)
    if before is not None:
        before(shard[0])
    return featurize(paths, folder, shard=shard, **options).rows


class _Encoder:
    """Encodes shards, as an actor of a worker."""

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        self._name = model
        self._options = options
        self._model: KmerVAE | None = None

    def encode(self, number: int, path: str, target: str, before: Hook | None) -> int:
        """Encode a shard, unless that was done."""
        from kvae.encoding import encode, open_model_and_rows
        from kvae.model.files import model_fingerprint

        if before is not None:
            before(number)
        options = dict(self._options)
        device, threads = options.pop("device"), options.pop("threads")
        force = options.pop("force")
        if self._model is None:
            self._model, _ = open_model_and_rows(
                self._name, path, device=device, threads=threads, verify=False
            )
        if Path(target).exists() and not force:
            found = _model_of(Path(target))
            if found == model_fingerprint(self._model):
                return 0
            raise KvaeError(
                f"{target}: holds latents of {found or 'no known model'}, not of"
                f" {model_fingerprint(self._model)}: give --force (force=True) to replace it, or"
                " another folder"
            )
        return encode(self._model, path, target, threads=threads, force=True, **options).rows


def _model_of(path: Path) -> str | None:
    """Fingerprint of the model that a file of latents is of."""
    import json

    import pyarrow as pa

    try:
        with pa.memory_map(os.fspath(path)) as source:
            metadata = pa.ipc.open_file(source).schema.metadata or {}
        facts = json.loads(metadata.get(b"kvae", b"{}"))
    except (pa.ArrowException, ValueError, OSError):
        return None
    model = facts.get("model") if isinstance(facts, dict) else None
    return None if model is None else str(model)


def _results(ray: Any, refs: dict[Any, int], thing: str, count: int) -> Iterator[tuple[int, Any]]:
    """Wait for tasks in the order in which they end; the first mistake ends all.

    Raises
    ------
    KvaeError
        That of a task, or if its workers were lost too often.
    """
    waiting = list(refs)
    while waiting:
        (done, *_), waiting = ray.wait(waiting)
        try:
            yield refs[done], ray.get(done)
        except ray.exceptions.RayTaskError as error:
            for ref in waiting:
                ray.cancel(ref, force=False)
            if isinstance(error.cause, KvaeError):
                raise KvaeError(str(error.cause)) from None
            raise
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.ActorDiedError) as error:
            raise KvaeError(
                f"{thing} {refs[done]} of {count}: its worker was lost too often: see why in"
                " Ray's logs, and start again; what is whole stays"
            ) from error


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine for as long as it is needed."""
    # Under `uv run` Ray would have every worker copy the folder that one is in, build its
    # project anew and run that. The packages of this process are what workers are to use.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = require("ray", "ray", "running on a cluster of Ray")
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            logging_level="ERROR",
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise KvaeError(f"{address}: no cluster of Ray answers there: start one first") from error
    try:
        yield ray
    finally:
        ray.shutdown()
