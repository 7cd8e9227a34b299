"""numpy's archives, written piece by piece."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["NpzFile"]


class NpzFile:
    """An archive that is assembled when it is closed.

    Matrices go through temporary files in its folder, so that memory stays bounded. The
    same arrays give the same bytes: members have no time stamps.

    Parameters
    ----------
    path
        The file to write.
    compressed
        Whether members are deflated.
    """

    def __init__(self, path: Path, *, compressed: bool = False) -> None:
        self._path = path
        self._method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
        self._stack = ExitStack()
        self._spools: dict[str, tuple[IO[bytes], list[int], np.dtype[Any]]] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def begin(self, name: str, width: int, dtype: Any) -> None:
        """Start a matrix that has ``width`` columns and no rows yet."""
        spool = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - by the stack
        self._stack.enter_context(spool)
        self._spools[name] = (spool, [0, width], np.dtype(dtype).newbyteorder("<"))

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows to a matrix."""
        spool, shape, dtype = self._spools[name]
        spool.write(np.ascontiguousarray(rows, dtype).data)
        shape[0] += len(rows)

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Add a whole array. One of Python strings becomes one of numpy's."""
        self._arrays[name] = array.astype(str) if array.dtype == object else array

    def put_objects(self, name: str, array: NDArray[np.object_]) -> None:
        """Add an array of Python objects as it is, pickled: some readers want that."""
        self._arrays[name] = array

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Assemble the archive, unless something has failed."""
        with self._stack:
            if error is None:
                self._assemble()

    def _assemble(self) -> None:
        with zipfile.ZipFile(self._path, "w") as archive:
            for name, (spool, shape, dtype) in self._spools.items():
                descr = npy.dtype_to_descr(dtype)
                header = {"descr": descr, "fortran_order": False, "shape": tuple(shape)}
                with self._member(archive, name) as member:
                    npy.write_array_header_2_0(member, header)
                    spool.seek(0)
                    shutil.copyfileobj(spool, member, 1 << 20)
            for name, array in self._arrays.items():
                with self._member(archive, name) as member:
                    npy.write_array(member, array, allow_pickle=array.dtype == object)

    def _member(self, archive: zipfile.ZipFile, name: str) -> IO[bytes]:
        info = zipfile.ZipInfo(f"{name}.npy")
        info.compress_type = self._method
        return archive.open(info, "w", force_zip64=True)
