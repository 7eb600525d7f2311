"""The release of nanobot that wrote a folder of session files."""

from __future__ import annotations

import os
from itertools import islice

from sessionscope.store.model.errors import StoreError
from sessionscope.store.nanobot.format.discovery import CONFLICTS, LEGACY, Folder
from sessionscope.store.nanobot.format.file import beginning
from sessionscope.store.nanobot.format.file_head import read_file_head
from sessionscope.store.nanobot.format.names import Naming

SAMPLED_FILES, SAMPLED_BYTES = 50, 2_048
"""How many files are sampled, and how many bytes of the beginning of each."""


def release_of(folder: Folder) -> str:
    """Return the releases that wrote a folder, as far as its files tell by their names and by what only some
    releases store.
    """
    namings: set[Naming] = set()
    keyed = dated = False
    try:
        names = [entry.name for entry in islice(folder.files(), SAMPLED_FILES)]
    except OSError:
        names = []
    for name in names:
        try:
            data, _ = beginning(os.path.join(folder.path, name), SAMPLED_BYTES)
        except StoreError:
            continue
        head = read_file_head(folder.name_of(name), data, len(data) < SAMPLED_BYTES, preview=False)
        if (metadata := head.metadata) is not None:
            namings.add(Naming.BASE64 if head.later else Naming.LOSSY)
            keyed, dated = keyed or metadata.key is not None, True
    away = folder.layout not in ("", LEGACY, CONFLICTS)
    if away or Naming.BASE64 in namings:
        return "nanobot 0.3.5" if away else "nanobot 0.2-0.3" if Naming.LOSSY in namings else "nanobot 0.3"
    return "nanobot 0.1.4-0.2" if keyed else "nanobot 0.1" if dated else "nanobot"
