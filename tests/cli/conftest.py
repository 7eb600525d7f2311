"""What the command line's tests share: a run in this process, one in its own, and databases made to order."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sessionscope.store.powerloop.format.schema import TABLES
from sessionscope.tui.__main__ import main

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(path.stem for path in (ROOT / "tests" / "data" / "power-loop").glob("*.db"))


class Result(NamedTuple):
    """What a run left behind."""

    status: int
    out: str
    err: str


Cli = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]
AppliedCompaction = tuple[str | bytes, dict[str, Any], Sequence[dict[str, Any]]]
Make = Callable[..., Path]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sample_name" in metafunc.fixturenames:
        metafunc.parametrize("sample_name", SAMPLES)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in this process, with a `terminal` or without one."""

    def run(*argv: object, terminal: bool = False) -> Result:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.stdout, "isatty", lambda: terminal)
            status = main([str(word) for word in argv])
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a command line, or other Python code, in a process of its own, in an empty folder."""

    def begin(
        *argv: object, code: str | None = None, environment: dict[str, str] | None = None, stdout: Any = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        folder = tmp_path / "cwd"
        folder.mkdir(exist_ok=True)
        command = [sys.executable, *(("-c", code) if code else ("-m", "sessionscope.tui")), *map(str, argv)]
        variables = os.environ | (environment or {})
        return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, cwd=folder, env=variables)

    return begin


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a database of sessions: each an id, its columns, and its messages as columns; seq counts from 1."""

    def build(*sessions: AppliedCompaction, name: str = "made.db") -> Path:
        path = tmp_path / "made" / name
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(path)) as conn, conn:
            conn.executescript(TABLES)
            for at, (id_, columns, messages) in enumerate(sessions):
                insert(conn, "sessions", {"session_id": id_, "created_at": at + 1, "updated_at": at + 1} | columns)
                insert(conn, "session_state", {"session_id": id_, "next_seq": len(messages) + 1})
                for seq, message in enumerate(messages, 1):
                    row = {"session_id": id_, "seq": seq, "role": "user", "created_at": seq}
                    insert(conn, "messages", row | message)
        return path

    return build


def insert(conn: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    conn.execute(f"INSERT INTO {table} ({','.join(row)}) VALUES ({','.join('?' * len(row))})", list(row.values()))
