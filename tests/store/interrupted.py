"""Appends under a rain of interrupts, and fails where one leaves a lock held, a transaction open or a message lost.

python interrupted.py DATABASE
"""

from __future__ import annotations

import signal
import sqlite3
import sys
import threading
import time

from sessionscope.store import SessionStore

SECONDS, LEAST = 2, 100


def main(path: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    store = SessionStore.open(path)
    store.create_session(session_id="a")
    signal.signal(signal.SIGALRM, interrupt)
    until, turn, acknowledged = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < until:
        turn += 1
        try:
            signal.setitimer(signal.ITIMER_REAL, (turn % 97 + 1) / 10**6)
            while True:
                acknowledged = store.append_message("a", role="user")
        except KeyboardInterrupt:
            pass
        assert not store._conn.in_transaction, f"a transaction is open after interrupt {turn}"
        free: list[bool] = []

        def probe(free: list[bool] = free) -> None:
            free.append(store._lock.acquire(timeout=5))
            if free[0]:
                store._lock.release()

        thread = threading.Thread(target=probe)
        thread.start()
        thread.join()
        assert free == [True], f"the lock is held after interrupt {turn}"
    assert turn > LEAST, f"only {turn} interrupts"
    with sqlite3.connect(path) as other:
        rows, highest = other.execute("SELECT count(*), max(seq) FROM messages").fetchone()
    assert rows == highest >= acknowledged, (rows, highest, acknowledged)


if __name__ == "__main__":
    main(*sys.argv[1:])
