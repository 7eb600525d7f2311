"""Scripts of the subagents of the main sample session."""

from __future__ import annotations

from .steps import CallStep, SayStep, Script, Spawn, Tool, UserStep

CLAIM = """\
41  def claim(self, worker: str) -> Batch | None:
42      row = self.db.execute(
43          "SELECT id FROM batches WHERE state = 'ready' ORDER BY id LIMIT 1"
44      ).fetchone()
45      if row is None:
46          return None
47      self.db.execute(
48          "UPDATE batches SET state = 'claimed', worker = ?, lease_until = ? WHERE id = ?",
49          (worker, time.time() + LEASE_S, row["id"]),
50      )
51      return Batch(row["id"], worker)"""

TRACEBACK = """\
Error: exit status 1
tests/test_resume.py::test_resumes_after_crash FAILED                    [100%]

    def test_resumes_after_crash(importer, crash_after):
        crash_after(3)
        importer.run(workers=2)
>       assert importer.report().imported == 500
E       AssertionError: assert 540 == 500
E        +  where 540 = Report(imported=540, skipped=0, failed=0).imported

tests/test_resume.py:77: AssertionError
========================= 1 failed, 11 passed in 4.31s ========================="""

LOGS = Script(
    key="logs",
    spec="summariser",
    depth=3,
    lifecycle="ephemeral",
    prompt="You summarise logs. Name files and counts, no opinions.",
    steps=(
        CallStep(
            "",
            (
                Tool(
                    "list_files",
                    {"path": "ci-artifacts"},
                    "\n".join(f"ci-artifacts/run-{n}/pytest.log" for n in range(8841, 8857)),
                ),
            ),
        ),
        CallStep(
            "Sixteen logs. I read them oldest first.",
            (
                Tool("read_file", {"path": "ci-artifacts/run-8841/pytest.log", "tail": 40}, "12 passed in 4.02s"),
                Tool("read_file", {"path": "ci-artifacts/run-8842/pytest.log", "tail": 40}, "12 passed in 3.97s"),
                Tool("read_file", {"path": "ci-artifacts/run-8843/pytest.log", "tail": 40}, TRACEBACK),
            ),
        ),
        CallStep(
            "",
            (
                Tool(
                    "grep",
                    {"pattern": "AssertionError", "path": "ci-artifacts"},
                    "ci-artifacts/run-8843/pytest.log:9: AssertionError: assert 540 == 500\n"
                    "ci-artifacts/run-8850/pytest.log:9: AssertionError: assert 520 == 500",
                ),
            ),
        ),
        # What power-loop writes when no rounds are left. The session is kept then, although it is ephemeral.
        UserStep("You have reached the maximum of 8 rounds. Summarize what you accomplished and what remains.", 0.0),
    ),
)

WATCHER = Script(
    key="watcher",
    spec="ci-watcher",
    depth=2,
    lifecycle="detached",
    title="Watch CI for more failures",
    prompt="You watch a CI pipeline and report changes. Be brief.",
    steps=(
        CallStep(
            "I follow the pipeline of `main` and collect every failing run.",
            (
                Tool(
                    "run_command",
                    {"command": "ci runs --branch main --limit 16 --json"},
                    '[{"id": 8856, "status": "passed"}, {"id": 8855, "status": "passed"}, {"id": 8850, "status": '
                    '"failed"}, {"id": 8843, "status": "failed"}]',
                ),
            ),
        ),
        CallStep(
            "Two of sixteen failed. The logs are long, so a helper condenses them.",
            (
                Spawn(
                    LOGS,
                    "Summarise the failing pytest logs of runs 8841 to 8856: which test, which numbers.",
                    "Stopped after 8 rounds. So far: run 8843 imported 540 of 500 rows, run 8850 imported 520.",
                ),
            ),
        ),
        SayStep(
            "Of the last 16 runs **2 failed**, both in `test_resumes_after_crash`:\n\n"
            "| run | imported | expected |\n|---|---|---|\n| 8843 | 540 | 500 |\n| 8850 | 520 | 500 |\n\n"
            "The surplus is a multiple of 20, which is the batch size: whole batches are imported twice."
        ),
    ),
)

INVESTIGATOR = Script(
    key="investigator",
    spec="investigator",
    depth=1,
    lifecycle="linked",
    title="Trace the retry path",
    prompt="You read code and explain what it does. You change nothing.",
    steps=(
        CallStep(
            "I start at the entry point and follow a batch until it is committed.",
            (
                Tool(
                    "grep",
                    {"pattern": "claim\\(|release\\(|commit\\(", "path": "importer"},
                    "importer/worker.py:28: batch = self.queue.claim(self.name)\n"
                    "importer/worker.py:39: self.queue.commit(batch)\n"
                    "importer/worker.py:44: self.queue.release(batch)\n"
                    "importer/queue.py:41: def claim(self, worker: str) -> Batch | None:\n"
                    "importer/queue.py:63: def release(self, batch: Batch) -> None:",
                ),
                Tool("read_file", {"path": "importer/queue.py", "from": 41, "to": 51}, CLAIM),
            ),
        ),
        CallStep(
            "`claim` reads first and writes second. Whether that matters depends on the isolation level.",
            (
                Tool(
                    "grep",
                    {"pattern": "isolation_level|BEGIN", "path": "importer"},
                    "importer/db.py:12: conn = sqlite3.connect(path, isolation_level=None)",
                ),
            ),
        ),
        CallStep(
            "Autocommit, so there is no transaction around the two statements. Failing runs would tell how often "
            "it happens; I leave that to a watcher and go on reading.",
            (
                Spawn(
                    WATCHER,
                    "Collect the failing runs of the last days and what they have in common.",
                    "started in the background",
                ),
            ),
        ),
        SayStep(
            "The retry path is sound; the *claim* is not.\n\n"
            "1. `Worker.run` asks `queue.claim` for a batch (worker.py:28).\n"
            "2. `claim` SELECTs the oldest ready batch and then UPDATEs it, in autocommit mode (queue.py:42-50).\n"
            "3. Between the two, the other worker can SELECT **the same row**.\n\n"
            "After a simulated crash both workers come back within a few milliseconds of each other, which is why "
            "only the resume test shows it."
        ),
    ),
)

REVIEWER = Script(
    key="reviewer",
    spec="reviewer",
    depth=1,
    lifecycle="linked",
    name="Review the patch",
    prompt="You review patches. Look for races, missing tests and changed behaviour. Say what you would not merge.",
    steps=(
        CallStep(
            "",
            (
                Tool(
                    "run_command",
                    {"command": "git diff --stat main"},
                    " importer/queue.py   | 19 +++++++++----------\n importer/clock.py   | 14 ++++++++++++++\n"
                    " tests/test_queue.py | 31 +++++++++++++++++++++++++++++++\n 3 files changed, 54 insertions(+), "
                    "10 deletions(-)",
                ),
                Tool(
                    "run_command",
                    {"command": "git diff main -- importer/queue.py"},
                    "@@ -41,11 +41,10 @@ class Queue:\n     def claim(self, worker: str) -> Batch | None:\n"
                    "-        row = self.db.execute(\n-            \"SELECT id FROM batches WHERE state = 'ready' "
                    'ORDER BY id LIMIT 1"\n-        ).fetchone()\n+        row = self.db.execute(_CLAIM_ONE, '
                    "(worker, self.clock() + LEASE_S)).fetchone()\n         if row is None:\n"
                    "             return None",
                ),
            ),
        ),
        SayStep(
            "Two remarks, neither blocks the merge:\n\n"
            "- **Good**: one `UPDATE ... RETURNING` cannot hand a batch to two workers.\n"
            "- `RETURNING` needs SQLite 3.35. The CI image has 3.40, but the support table still says 3.31. "
            "Please raise it in the README.\n"
            "- `lease_until` now comes from an injected clock; `release` still calls `time.time()`. "
            "Use the clock there too, or a test with a fake clock will see leases expire at once."
        ),
    ),
)

FUZZER = Script(
    key="fuzzer",
    spec="fuzzer",
    depth=1,
    lifecycle="ephemeral",
    prompt="You write property-based tests and run them.",
    steps=(
        CallStep(
            "",
            (
                Tool(
                    "run_command",
                    {"command": "pytest -q tests/test_queue_properties.py --hypothesis-seed=0"},
                    "Error: the command timed out after 120 s",
                    took=120,
                ),
            ),
        ),
        SayStep("[degraded: LLM did not answer after 3 attempts (HTTP 529)]"),
    ),
)
