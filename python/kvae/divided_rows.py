"""Rows of all shards, of which each of several processes can read its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from kvae.gathering import PackedGatherer
    from kvae.layout import Layout
    from kvae.row_sources import Indices
    from kvae.store import FeatureStore
    from kvae.training.processes import Processes

__all__ = ["DividedRows"]


class DividedRows:
    """All rows of a set of shards; a `kvae.row_sources.RowSource` of which a part can be read.

    Names, files and lengths of all rows are exchanged once, so that every process draws the
    same split and the same batches as one that had all shards would.

    Parameters
    ----------
    store
        The shards of this process, opened as one of as many parts as there are processes.
    processes
        All of them, which make this at the same time.
    """

    def __init__(self, store: FeatureStore, processes: Processes) -> None:
        assert store.starts is not None
        self.store = store
        self.first = store.starts[processes.rank]
        facts = pa.table(
            {
                "id": store.ids.cast(pa.large_string()),
                "source": pa.array(store.source_codes, pa.int32()),
                "length": store.column("length"),
            }
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, facts.schema) as writer:
            writer.write_table(facts)
        parts = processes.gather(sink.getvalue())
        self._facts = pa.concat_tables([pa.ipc.open_stream(part).read_all() for part in parts])
        self.source_codes: NDArray[np.int32] = self._facts.column("source").to_numpy()

    @property
    def layout(self) -> Layout:
        """Layout of the rows."""
        return self.store.layout

    @property
    def path(self) -> Any:
        """Where the rows come from."""
        return self.store.path

    @property
    def source_names(self) -> list[str]:
        """Input files of all rows."""
        return self.store.source_names

    @property
    def ids(self) -> Any:
        """Record name of each row."""
        return self._facts.column("id")

    @property
    def has_sequences(self) -> bool:
        """Whether the shards keep the sequence of each row."""
        return self.store.has_sequences

    def __len__(self) -> int:
        """Count the rows of all processes."""
        return len(self._facts)

    def column(self, name: str) -> Any:
        """Read one of the columns that were exchanged.

        Raises
        ------
        KeyError
            For any other.
        """
        if name not in ("id", "length"):
            raise KeyError(name)
        return self._facts.column(name)

    def rows(self, indices: Indices, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Gather rows of this process by their positions among all.

        Returns
        -------
        ndarray of float32, shape (len(indices), fields)

        Raises
        ------
        IndexError
            If a row is another process's.
        """
        return self.store.rows(np.asarray(indices) - self.first, out)

    def stretches_of(
        self, indices: Indices
    ) -> tuple[PackedGatherer, Indices, NDArray[np.uint64], NDArray[np.uint64]]:
        """Where the sequences of rows of this process are, see `kvae.FeatureStore`."""
        return self.store.stretches_of(np.asarray(indices) - self.first)
