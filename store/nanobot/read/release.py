"""The release of nanobot that wrote a folder of session files."""

from __future__ import annotations

import os
from itertools import islice

from sessionscope.store.model.errors import StoreError
from sessionscope.store.nanobot.format.discovery import CONFLICTS, LEGACY, Folder
from sessionscope.store.nanobot.format.file import beginning
from sessionscope.store.nanobot.format.file_head import FileHead, read_file_head

SAMPLED_FILES = 50
"""How many files of a folder are read."""
SAMPLED_BYTES = 2_048
"""How many first bytes of each are read."""


def release_of(folder: Folder) -> str:
    """Return the releases that wrote a folder, as far as its place, its file names and its metadata lines tell."""
    if folder.layout not in ("", LEGACY, CONFLICTS):
        # Only 0.3.5 has folders named by a workspace's id.
        return "nanobot 0.3.5"
    heads = [head for head in _sampled_heads(folder) if head.metadata is not None]
    if any(head.later for head in heads):
        return "nanobot 0.3" if all(head.later for head in heads) else "nanobot 0.2-0.3"
    if any(head.metadata is not None and head.metadata.key is not None for head in heads):
        return "nanobot 0.1.4-0.2"
    return "nanobot 0.1" if heads else "nanobot"


def _sampled_heads(folder: Folder) -> list[FileHead]:
    try:
        names = [entry.name for entry in islice(folder.files(), SAMPLED_FILES)]
    except OSError:
        return []
    heads = []
    for name in names:
        try:
            data, _ = beginning(os.path.join(folder.path, name), SAMPLED_BYTES)
        except StoreError:
            continue
        heads.append(read_file_head(folder.name_of(name), data, len(data) < SAMPLED_BYTES, preview=False))
    return heads
