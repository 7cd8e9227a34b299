"""``kvae.report``: from a run's folder to a page."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvae import defaults
from kvae.atomic import atomic_output, check_output, keep_inputs
from kvae.config import SequencesConfig
from kvae.device import resolve_device, torch_threads
from kvae.errors import KvaeError
from kvae.latents import Latents, read_latents
from kvae.layout import Layout
from kvae.model import KmerVAE
from kvae.model.files import model_fingerprint
from kvae.progress import Progress
from kvae.reporting.attributes import attributes
from kvae.reporting.calibration import Calibration, calibrate
from kvae.reporting.curves import Line, curves, gate_curve
from kvae.reporting.dimensions import dimensions
from kvae.reporting.embedding import draw_map, resolve_method, sample_rows
from kvae.reporting.findings import Findings
from kvae.reporting.histograms import Histogram, histogram
from kvae.reporting.page import render
from kvae.reporting.points import Points, encode_sample, points_of
from kvae.reporting.reading import RunFacts, read_run
from kvae.reporting.scores import read_scores
from kvae.row_sources import Features, open_rows
from kvae.run_folder import RunFolder
from kvae.seeds import check_seed
from kvae.store import FeatureStore

__all__ = ["Report", "report"]

# Rows that are encoded for a page where no latents are given.
_ENCODED_ROWS = 10_000
# Rows that are encoded for the divergence of units where a file has no variances.
_UNIT_ROWS = 2000


@dataclass(frozen=True)
class Report:
    """What `report` wrote.

    Attributes
    ----------
    output
        The page.
    size
        Its bytes.
    rows, map_rows
        Rows whose latents were looked at, and those on the map; 0 without latents.
    map_method
        How the map was drawn, None without one.
    missing
        By section, what the page lacks and how to get it.
    """

    output: Path
    size: int
    rows: int
    map_rows: int
    map_method: str | None
    missing: dict[str, str]


def report(
    run: str | Path,
    output: str | Path = "report.html",
    *,
    latents: str | Path | None = None,
    features: Features | None = None,
    labels: str | Path | None = None,
    by: Sequence[str] = (),
    clusters: str | Path | None = None,
    evaluation: str | Path | None = None,
    map: str = "auto",
    map_rows: int | None = None,
    title: str | None = None,
    seed: int = defaults.SEED,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Write a page about a run: curves, map of the latents, calibration, the model.

    The page is one HTML file that loads nothing. What is not at hand is left out with
    a sentence about how to get it. The same inputs give the same bytes, on the same
    machine with the same number of threads.

    Parameters
    ----------
    run
        A run folder, a ``model.safetensors``, or ``"pretrained"``.
    output
        The page to write.
    latents
        File of `kvae.encode`; without one, 10,000 rows of the features are encoded.
    features
        Feature file, or sequences, for calibration, lengths and GC; those that the run
        was trained on where omitted, if they are still there.
    labels, by
        Table of labels as for `kvae.evaluate`, and the columns to colour by.
    clusters
        Table with a header, of clusters and their contigs.
    evaluation
        ``evaluation.json`` of `kvae.evaluate`, or its folder.
    map
        ``umap`` (needs umap-learn), ``tsne``, ``pca``, or ``auto``: UMAP where it is
        installed, else t-SNE.
    map_rows
        Rows on the map at most; 20,000 for UMAP, 5,000 for t-SNE and 30,000 for PCA
        where omitted.
    title
        Heading of the page; the name of the run where omitted.
    seed
        Decides samples and the map.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    threads
        CPU threads, all that are available where omitted.
    force
        Replace an existing page.
    progress
        Told about every pass.

    Raises
    ------
    KvaeError
        Where there is no run or it is damaged, files do not belong to each other, or
        the output may not be written.
    """
    progress = progress or Progress()
    path = Path(output)
    check_output(path, force=force)
    keep_inputs(path, RunFolder(run), latents, features, labels, clusters, evaluation)
    if map_rows is not None and map_rows < 1:
        raise KvaeError(f"rows on the map must be at least 1, got {map_rows}")
    check_seed(seed)
    method = resolve_method(map)
    torch_device = resolve_device(device)
    facts = read_run(run)
    scores = None if evaluation is None else read_scores(evaluation)
    with torch_threads(threads):
        store, missing = _open_features(facts, features, threads)
        keep_inputs(path, store)
        model = _load(facts, store)
        fingerprint = None
        if model is not None:
            fingerprint = model_fingerprint(model)
            model = model.to(torch_device)
        if scores is not None and fingerprint not in (None, scores.fingerprint):
            raise KvaeError(
                f"{scores.path}: is of model {scores.fingerprint}, and that of {facts.name} is"
                f" {fingerprint}: evaluate again"
            )
        points, was_encoded = None, False
        if latents is not None:
            found = read_latents(latents)
            _check_origin(found, fingerprint, facts)
            points = points_of(found, store)
        elif model is not None and store is not None:
            points = encode_sample(model, store, _ENCODED_ROWS, seed, torch_device, progress)
            was_encoded = True
        else:
            missing["map"] = missing["units"] = _no_points(facts, model)
        units = None if points is None else dimensions(points.latents)
        if units is not None and units.kl is None and not units.is_sphere and model and store:
            # Divergences need variances, which the file lacks and the model knows.
            some = encode_sample(model, store, _UNIT_ROWS, seed, torch_device, progress)
            units = dimensions(some.latents)
        rows, coloured = None, []
        if points is not None:
            rows = sample_rows(points.latents.source_codes, method, map_rows, seed)
            # Before what takes long: a table may be none, or about no row.
            coloured = attributes(points, rows, labels=labels, by=by, clusters=clusters)
        calibration = None
        if model is not None and store is not None:
            calibration = calibrate(facts, model, store, seed, torch_device, progress)
            if calibration is None:
                missing["calibration"] = (
                    "This design has no gate, so it gives no probabilities of presence that could"
                    " be right or wrong."
                )
        drawn = None
        if points is not None and rows is not None:
            drawn = draw_map(points.latents.vectors, rows, method, seed, progress)
    if model is None:
        missing["calibration"] = "There are no weights yet: no epoch of this run is finished."
    graph, n_parameters = _graph(facts)
    if scores is None:
        missing["scores"] = (
            "No evaluation was given. `kvae evaluate RUN FEATS -o evaluation` scores the latent"
            " beside vectors that need no model, and"
            " `kvae report RUN --evaluation evaluation/evaluation.json` shows the tables here."
        )
    if not facts.epochs:
        missing["training"] = (
            "There are no epochs to show: no epoch of this run is finished yet."
            if facts.config
            else "There are no epochs to show: this is a model without the folder of its run."
        )
    page = render(
        Findings(
            run=facts,
            title=title or facts.name,
            n_parameters=n_parameters,
            fingerprint=fingerprint,
            graph=graph,
            curves=curves(facts),
            gate=gate_curve(facts, _limit(calibration)),
            calibration=calibration,
            scores=scores,
            units=units,
            histograms=_histograms(points, store, missing),
            points=points,
            map=drawn,
            attributes=coloured,
            was_encoded=was_encoded,
            missing={"rows": "", **missing},
        )
    )
    content = page.encode()
    with atomic_output(path, force=force) as temporary:
        temporary.write_bytes(content)
    return Report(
        output=path,
        size=len(content),
        rows=0 if points is None else len(points),
        map_rows=0 if drawn is None else len(drawn.rows),
        map_method=None if drawn is None else drawn.method,
        missing={name: text.replace("`", "") for name, text in missing.items() if text},
    )


def _open_features(
    run: RunFacts, features: Features | None, threads: int | None
) -> tuple[FeatureStore | None, dict[str, str]]:
    """Open the rows that were given, or those that the run was trained on."""
    cutting = run.config.sequences if run.config else SequencesConfig()
    cutting = cutting.model_copy(update={"resample": False})
    given = features if features is not None else run.inputs()
    if features is None and not given:
        lost = "were not found where the run was trained on them" if run.data else "were not given"
        sentence = f"The features {lost}: with `--features FEATS` this page shows"
        return None, {
            "calibration": f"{sentence} how well probabilities of presence are calibrated, and"
            " what accuracy sampling allows.",
            "rows": f"{sentence} the GC of the rows.",
        }
    store = open_rows(given, k=run.model.ks, cutting=cutting, threads=threads)
    if not isinstance(store, FeatureStore):
        raise KvaeError(f"{store.path}: rows to report must come from a file of features")
    return store, {}


def _load(run: RunFacts, store: FeatureStore | None) -> KmerVAE | None:
    """Load the model, None where no epoch is finished."""
    layout = Layout.from_ks(run.model.ks) if store is None else store.layout
    path = run.path if run.config is None else run.path / "model.safetensors"
    if not path.exists():
        return None
    model = KmerVAE.load(path, layout=layout)
    if run.config is not None and model.config != run.config.model:
        raise KvaeError(f"{run.path}: config.json and model.safetensors describe different models")
    return model


def _check_origin(latents: Latents, fingerprint: str | None, run: RunFacts) -> None:
    """Refuse latents of another model: the page would be about neither."""
    if latents.n_latent != run.model.n_latent:
        raise KvaeError(
            f"{latents.path}: has latents of {latents.n_latent} units, and the model of"
            f" {run.name} has {run.model.n_latent}"
        )
    theirs = latents.facts.get("model")
    if None not in (theirs, fingerprint) and theirs != fingerprint:
        raise KvaeError(
            f"{latents.path}: was encoded by model {theirs}, and that of {run.name} is"
            f" {fingerprint}: encode again"
        )


def _no_points(run: RunFacts, model: KmerVAE | None) -> str:
    if model is None:
        return "There is no map yet: no epoch of this run is finished."
    return (
        "There are no latents to draw: give those of `kvae encode RUN FEATS -o latent.arrow` with"
        " `--latent latent.arrow`, or the features with `--features FEATS`, of which a sample is"
        " then encoded."
    )


def _limit(calibration: Calibration | None) -> Line | None:
    if calibration is None or calibration.limit is None:
        return None
    return Line("limit of sampling", calibration.limit.expected_accuracy, is_limit=True)


def _histograms(
    points: Points | None, store: FeatureStore | None, missing: dict[str, str]
) -> list[Histogram]:
    """Lengths and GC of the features' rows, else of those that the latents are of."""
    found = []
    if store is not None:
        length = store.column("length").to_numpy()
        found.append(histogram("Length of rows", "bases", length, whole=True))
        gc = 100.0 * np.asarray(store.column("gc").to_numpy(), dtype=np.float64)
        found.append(histogram("GC of rows", "% of bases", gc))
    elif points is not None:
        found.append(histogram("Length of rows", "bases", points.latents.length, whole=True))
    else:
        missing["rows"] = (
            "Lengths and GC of rows are shown where features are at hand: `--features FEATS`."
        )
    return found


def _graph(run: RunFacts) -> tuple[str, int]:
    """Draw the model, to stand within a page."""
    from kvae.drawing import draw_config

    with tempfile.TemporaryDirectory(prefix="kvae-report.") as folder:
        path = Path(folder) / "model.svg"
        drawn = draw_config(run.model, run.title, path)
        text = path.read_text(encoding="utf-8")
    return _inlined(text), drawn.n_parameters


def _inlined(svg: str) -> str:
    """Take from a picture what stands in files only, and rules that would reach the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'width="([\d.]+)pt" height="([\d.]+)pt"',
        r'width="\1pt" style="stroke-linejoin:round;stroke-linecap:butt"',
        svg,
        count=1,
    )
    return svg.strip()
