"""The exception that stands for a mistake the user can mend."""

from __future__ import annotations

import os

__all__ = ["KvaeError", "refused"]


class KvaeError(Exception):
    """A request that cannot be served as it is.

    Its message is one line that names the file, record or option concerned and
    says what to do. The command line prints it and exits with code 1; every
    other exception is a defect of kvae and keeps its traceback.
    """


def refused(error: BaseException) -> str | None:
    """Say what the system refused, in its words; None where it was not the system.

    A file that could not be read may be sound. Arrow words such an error for programmers,
    and gives damage as an error of the system without a number.
    """
    if not isinstance(error, OSError):
        return None
    if error.errno:
        return os.strerror(error.errno).lower()
    return "cannot be mapped into memory" if "mapping" in str(error) else None
