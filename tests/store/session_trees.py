"""Sessions to do damage to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sessionscope.store.powerloop import SessionStore

NOTE: dict[str, Any] = {"note_content": "in short", "before_tokens": 9, "after_tokens": 1, "round_index": 0}


@contextmanager
def session_tree(path: Path) -> Iterator[SessionStore]:
    """Three sessions below one: damage is done to the second, so that its neighbours are on both sides."""
    with SessionStore.open(path) as store:
        store.create_session(session_id="top")
        for id_ in ("first", "second", "third"):
            store.create_session(session_id=id_, parent_session_id="top", config={"of": id_}, metadata={"title": id_})
            store.append_message(id_, role="user", content=f"question of {id_}")
            store.append_message(id_, role="assistant", content=f"answer of {id_}", tool_calls=[{"id": id_}])
            store.append_message(id_, role="user", content=f"thanks from {id_}")
            store.record_compaction(id_, from_seq=1, to_seq=1, **NOTE)
            store.set_pending(id_, {"of": id_})
        yield store
