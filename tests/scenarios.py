"""What is done again and again while something fails, or until it is killed."""

from __future__ import annotations

import gzip
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kvae.cli import main
from kvae.errors import KvaeError
from sequences import fasta, listing, random_sequence, write

OLD = b"precious"


class Scenario:
    """Something to do in a folder, and the file it is to make."""

    output = "out.arrow"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder as it is before."""

    def act(self) -> int:
        """Do it; the exit code."""
        raise NotImplementedError

    def go_on(self) -> int:
        """Do what a user would do next, without faults."""
        return 0

    def state(self) -> str:
        """What is in the output: ``old``, ``new`` or something else."""
        content = (self.folder / self.output).read_bytes()
        return "old" if content == OLD else "new" if content == self.expected else "broken"

    def learn(self) -> None:
        """Keep what comes out where nothing fails."""
        self.expected = (self.folder / self.output).read_bytes()


def command(*arguments: str) -> int:
    sys.argv = ["kvae", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


class Featurize(Scenario):
    """Two files, one compressed, to a feature file that is there already."""

    options: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = fasta([("b", random_sequence(1_500, 2)), ("c", "ACGTN" * 300)])
        write(folder / "in/a.fa", fasta([("a", random_sequence(2_000, 1))]))
        write(folder / "in/b.fa.gz", gzip.compress(text))

    def prepare(self) -> None:
        (self.folder / self.output).write_bytes(OLD)

    def act(self) -> int:
        output = str(self.folder / self.output)
        where = str(self.folder / "in")
        options = ["--k", "3", "--window", "100", "-t", "2", "--force", "-q", "-o", output]
        return command("featurize", where, *options, *self.options)


class Encode(Scenario):
    """The pretrained model on a small file."""

    output = "latent.arrow"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        write(folder / "a.fa", fasta([("a", random_sequence(12_000, 1))]))
        self.input = "a.fa"

    def prepare(self) -> None:
        (self.folder / self.output).write_bytes(OLD)

    def act(self) -> int:
        output = str(self.folder / self.output)
        options = ["--device", "cpu", "-t", "1", "--force", "-q", "-o", output]
        return command("encode", "--pretrained", str(self.folder / self.input), *options)


class EncodeFeatures(Encode):
    """The same from a feature file, as a table."""

    output = "latent.tsv.gz"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.input = "feats.arrow"
        path = str(folder / self.input)
        assert command("featurize", str(folder / "a.fa"), "-q", "-o", path) == 0


class Train(Scenario):
    """A short run, and what --resume makes of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from small import make_layout, make_store, small_run

        self.store = make_store(make_layout(96, 20, 8), [9, 8, 10, 7])
        self.config = small_run(epochs=2)
        self.whole = folder.with_name("whole")

    def prepare(self) -> None:
        shutil.rmtree(self.folder / "run", ignore_errors=True)

    def _run(self, **options: Any) -> int:
        from training_runs import run

        try:
            run(self.store, self.folder / "run", config=self.config, **options)
        except KvaeError as error:
            print(f"kvae: error: {error}", file=sys.stderr)
            return 1
        return 0

    def act(self) -> int:
        return self._run()

    def go_on(self) -> int:
        return self._run(resume=True)

    def learn(self) -> None:
        shutil.copytree(self.folder / "run", self.whole)

    def state(self) -> str:
        from training_runs import assert_same_run

        # The folder may not have been flushed when the older one was to go.
        *older, _ = sorted((self.folder / "run/checkpoints").iterdir())
        for path in older:
            path.unlink()
        try:
            assert_same_run(self.folder / "run", self.whole)
        except AssertionError:
            return "broken"
        return "new"


class TrainSequences(Scenario):
    """An epoch on sequence files, where there is no run yet."""

    output = "run/model.safetensors"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name, seed in (("a", 0), ("b", 50)):
            records = [(f"{name}{i}", random_sequence(2_000, seed + i)) for i in range(20)]
            write(folder / f"in/{name}.fa", fasta(records))

    def prepare(self) -> None:
        shutil.rmtree(self.folder / "run", ignore_errors=True)

    def act(self) -> int:
        options = ["--window", "1000", "--min-length", "500", "--preset", "slim", "--epochs", "1"]
        where = ["-t", "1", "--device", "cpu", "-q", "-o", str(self.folder / "run")]
        return command("train", str(self.folder / "in"), *options, *where)

    def state(self) -> str:
        return super().state() if (self.folder / self.output).exists() else "old"


class FeaturizePacked(Featurize):
    """The same, of sequences only, on one thread."""

    options = ("--store", "packed", "-t", "1")


class Merge(Scenario):
    """Two shards as one file."""

    n_letters = 3_000

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name, seed in (("a", 1), ("b", 2)):
            write(folder / f"in/{name}.fa", fasta([(name, random_sequence(self.n_letters, seed))]))
        options = ["--k", "3", "--window", "100", "-t", "1", "-q", "-o", str(folder / "shards")]
        for shard in ("1/2", "2/2"):
            assert command("featurize", str(folder / "in"), *options, "--shard", shard) == 0

    def prepare(self) -> None:
        (self.folder / self.output).write_bytes(OLD)

    def act(self) -> int:
        output = str(self.folder / self.output)
        return command("merge", str(self.folder / "shards"), "--force", "-q", "-o", output)


class _Latents(Scenario):
    """A file of latents to do something with."""

    def __init__(self, folder: Path) -> None:
        from latent_files import write_latents

        super().__init__(folder)
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(1)
        vectors = np.repeat(4 * rng.normal(size=(3, 8)), 20, 0) + rng.normal(size=(60, 8))
        self.latents = str(write_latents(folder / "latent.arrow", vectors, batch=30))

    def prepare(self) -> None:
        (self.folder / self.output).write_bytes(OLD)

    def run(self, name: str, *options: str) -> int:
        output = str(self.folder / self.output)
        return command(name, *options, "-q", "--force", "-o", output)


class Cluster(_Latents):
    """A table of clusters."""

    output = "clusters.tsv"

    def act(self) -> int:
        return self.run("cluster", self.latents, "-k", "3", "-t", "1")


class Bins(_Latents):
    """A folder of sequences by cluster, where there is one."""

    output = "bins"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        names = [f"contig_{i}" for i in range(60)]
        text = fasta((name, random_sequence(5_000, i)) for i, name in enumerate(names))
        write(folder / "in/assembly.fna", text)

    def prepare(self) -> None:
        (self.folder / "clusters.tsv").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "bins", ignore_errors=True)
        write(self.folder / "bins/1.fna", OLD)

    def act(self) -> int:
        where = ["--sequences", str(self.folder / "in"), "--bins", str(self.folder / "bins")]
        table = str(self.folder / "clusters.tsv")
        options = ["-k", "3", "--min-bin-bases", "0", "-t", "1", "-q", "--force", "-o", table]
        return command("cluster", self.latents, *options, *where)

    def state(self) -> str:
        content = listing(self.folder / "bins")
        return "old" if content == {"1.fna": OLD} else "new" if content == self.whole else "broken"

    def learn(self) -> None:
        self.whole = listing(self.folder / "bins")


class Index(_Latents):
    """An index, where there is one of nothing."""

    output = "latent.index"

    def prepare(self) -> None:
        shutil.rmtree(self.folder / self.output, ignore_errors=True)
        write(self.folder / self.output / "index.json", OLD)

    def act(self) -> int:
        return self.run("index", self.latents, "-t", "1")

    def state(self) -> str:
        content = listing(self.folder / self.output)
        old = content == {"index.json": OLD}
        return "old" if old else "new" if content == self.whole else "broken"

    def learn(self) -> None:
        self.whole = listing(self.folder / self.output)


class Search(_Latents):
    """Hits in a file of latents."""

    output = "hits.parquet"

    def act(self) -> int:
        return self.run("search", self.latents, "--record", "contig_7", "-t", "1")


class SearchIndex(_Latents):
    """Hits in an index, as text."""

    output = "hits.tsv.gz"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.index = str(folder / "latent.index")
        assert command("index", self.latents, "-t", "1", "-q", "-o", self.index) == 0

    def act(self) -> int:
        return self.run("search", self.index, self.latents, "-t", "1")


class Export(_Latents):
    """Features as a table of another format."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        write(folder / "in/a.fa", fasta([("a", random_sequence(3_000, 1))]))
        self.features = str(folder / "feats.arrow")
        options = ["--k", "3", "--window", "100", "-t", "1", "-q", "-o", self.features]
        assert command("featurize", str(folder / "in"), *options) == 0

    def act(self) -> int:
        return self.run("export", self.features, "-t", "1")


class ExportParquet(Export):
    output = "table.parquet"


class ExportText(Export):
    output = "table.tsv.gz"


class ExportNumpy(Export):
    output = "table.npz"


class ExportAnnData(Export):
    output = "table.h5ad"


class ExportLatents(_Latents):
    """Latents as text."""

    output = "latent.tsv"

    def act(self) -> int:
        return self.run("export", self.latents)


class Report(Scenario):
    """A page of the pretrained model and a few rows."""

    output = "report.html"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        records = [(f"r{i}", random_sequence(6_000, i)) for i in range(12)]
        self.input = str(write(folder / "a.fa", fasta(records)))
        self.latents = str(folder / "latent.arrow")
        options = ["--device", "cpu", "-t", "1", "-q", "-o", self.latents]
        assert command("encode", "--pretrained", self.input, *options) == 0

    def prepare(self) -> None:
        (self.folder / self.output).write_bytes(OLD)

    def act(self) -> int:
        output = str(self.folder / self.output)
        options = ["--map", "pca", "--latent", self.latents, "-t", "1", "--device", "cpu"]
        return command("report", "pretrained", *options, "-q", "--force", "-o", output)


SCENARIOS: dict[str, Callable[[Path], Scenario]] = {
    "featurize": Featurize,
    "featurize packed": FeaturizePacked,
    "encode": Encode,
    "encode features": EncodeFeatures,
    "train": Train,
    "train sequences": TrainSequences,
    "merge": Merge,
    "cluster": Cluster,
    "bins": Bins,
    "index": Index,
    "search": Search,
    "search index": SearchIndex,
    "export parquet": ExportParquet,
    "export text": ExportText,
    "export numpy": ExportNumpy,
    "export anndata": ExportAnnData,
    "export latents": ExportLatents,
    "report": Report,
}
