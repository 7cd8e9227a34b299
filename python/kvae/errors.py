"""The exception that stands for a mistake the user can mend."""

from __future__ import annotations


class KvaeError(Exception):
    """A request that cannot be served as it is.

    Its message is one line that names the file, record or option concerned and
    says what to do. The command line prints it and exits with code 1; every
    other exception is a defect of kvae and keeps its traceback.
    """
