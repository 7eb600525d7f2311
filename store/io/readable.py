"""Whether a file can be read, and why not. Imported at every start, so it imports hardly anything."""

from __future__ import annotations

import os
import stat

from sessionscope.store.model.errors import NotAnArchive


def check_readable(path: str | os.PathLike[str], shown: str) -> os.stat_result:
    """Return the status of a regular file. Raises NotAnArchive, which calls the file `shown`, if it cannot be read."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise NotAnArchive(f"{shown}: does not exist.") from None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise NotAnArchive(f"{shown}: cannot be read ({why}).") from None
    if not stat.S_ISREG(status.st_mode):
        raise NotAnArchive(f"{shown}: is not a regular file.")
    if not os.access(path, os.R_OK):
        raise NotAnArchive(f"{shown}: you may not read this file (permission denied).")
    return status
