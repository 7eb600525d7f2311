"""Scripts of the smaller sample sessions. Each shows something that a browser must handle."""

from __future__ import annotations

from .steps import CallStep, CompactStep, SayStep, Script, Tool, UserStep

_HOUR = 60.0
"""Minutes in an hour."""
_DAY = 1440.0
"""Minutes in a day."""


def _build_log() -> str:
    """Return a build log of about 30 kB in which two steps take most of the time."""
    stages = ("checkout", "restore cache", "compile", "link", "unit tests", "package")
    lines = ["nightly build 2217, runner large-4"]
    minute = 0.0
    for number in range(1, 431):
        slow = number in (118, 342)
        minute += 11.4 if slow else 0.03 + number % 7 / 100
        stage = stages[min(number // 75, 5)]
        target = f"services/{('ledger', 'quotes', 'mailer', 'portal')[number % 4]}/module_{number:03}"
        outcome = "cache MISS, full rebuild" if slow else "cache hit"
        lines.append(f"[{minute:6.2f} min] {stage:<13} {target:<36} {outcome}")
    return "\n".join([*lines, "finished: 430 targets, 2 cache misses, 0 failures"])


_KEYS = Script(
    key="keys",
    title="Rotate the signing keys",
    ended=38.0,
    prompt="You operate a production system. Ask before anything that cannot be undone.",
    steps=(
        UserStep("The signing keys are due. Rotate them in staging first, tell me before you touch production.", 0.0),
        CallStep(
            "Staging first: I check the age of the keys and who uses them.",
            (
                Tool(
                    "run_command",
                    {"command": "keyctl-cloud list --env staging"},
                    "sig-2023-11  active    421 days  used by: portal, mailer\n"
                    "sig-2024-02  standby    12 days  used by: -",
                ),
            ),
        ),
        CallStep(
            "The standby key is ready. Promoting it keeps the old one valid for seven days.",
            (
                Tool(
                    "run_command",
                    {"command": "keyctl-cloud promote sig-2024-02 --env staging --grace 7d"},
                    "sig-2024-02 is active; sig-2023-11 valid until its grace ends",
                ),
                Tool(
                    "http_get",
                    {"url": "https://staging.example.com/.well-known/jwks.json"},
                    '{"keys": [{"kid": "sig-2024-02", "alg": "EdDSA"}, {"kid": "sig-2023-11", "alg": "EdDSA"}]}',
                ),
            ),
        ),
        SayStep("Staging is rotated: both keys are published, new tokens carry `sig-2024-02`. Production next?"),
        UserStep("Yes, go ahead.", 14.0),
        CallStep(
            "Promoting in production, with a check from outside at the same time.",
            (
                Tool(
                    "http_get",
                    {"url": "https://www.example.com/.well-known/jwks.json"},
                    '{"keys": [{"kid": "sig-2023-10", "alg": "EdDSA"}]}',
                ),
                Tool("run_command", {"command": "keyctl-cloud promote sig-2024-03 --env production --grace 7d"}, None),
            ),
        ),
    ),
)

_INVOICES = Script(
    key="invoices",
    title="請求書テンプレートの多言語対応 🌏",
    ended=5 * _HOUR,
    steps=(
        UserStep("請求書のPDFで、日本語と絵文字が□になります。原因を調べて直してください。🙇", 0.0),
        CallStep(
            "フォントの設定から確認します。",
            (
                Tool(
                    "grep",
                    {"pattern": "font-family", "path": "templates/invoice.css"},
                    'templates/invoice.css:4: font-family: "Source Sans 3", sans-serif;',
                ),
                Tool("run_command", {"command": "fc-list :lang=ja family"}, ""),
            ),
        ),
        SayStep(
            "原因は二つあります。\n\n1. コンテナに日本語フォントが**一つも入っていない**（`fc-list :lang=ja` が空）。\n"
            "2. CSS の `font-family` に CJK の代替指定がない。\n\n```css\nbody {\n"
            '  font-family: "Source Sans 3", "Noto Sans CJK JP", "Noto Color Emoji", sans-serif;\n}\n```\n\n'
            "Dockerfile に `fonts-noto-cjk` と `fonts-noto-color-emoji` を追加すれば解決します。"
        ),
        UserStep("한국어와 简体中文도 확인해 주세요. 이모지는 👩‍💻 와 🇯🇵 도요!", 12.0),
        CallStep(
            "네, 세 언어로 시험 PDF를 만들어 보겠습니다.",
            (
                Tool(
                    "run_command",
                    {"command": "make invoice-samples LANGS='ja ko zh'"},
                    "ja: 株式会社サンプル ✓\nko: 주식회사 예시 ✓\nzh: 示例有限公司 ✓\nemoji: 👩‍💻 🇯🇵 🏳️‍🌈 ✓",
                ),
            ),
        ),
        SayStep(
            "세 언어와 이모지가 모두 올바르게 나옵니다 ✅\n\n| 语言 | 字体 | 结果 |\n|---|---|---|\n"
            "| 日本語 | Noto Sans CJK JP | ✓ |\n| 한국어 | Noto Sans CJK KR | ✓ |\n"
            "| 简体中文 | Noto Sans CJK SC | ✓ |"
        ),
    ),
)

_NIGHTLY = Script(
    key="nightly",
    ended=9 * _HOUR,
    steps=(
        UserStep("Why does the nightly build take 40 minutes since Tuesday? It used to be 15.", 0.0),
        CallStep(
            "I read the log of last night's build.", (Tool("read_file", {"path": "ci/nightly-2217.log"}, _build_log()),)
        ),
        CallStep(
            "Two cache misses of more than eleven minutes each. What do they have in common?",
            (
                Tool(
                    "run_command",
                    {"command": "git log --since=tuesday --oneline -- services/quotes services/mailer"},
                    "77d02ab Stamp the build time into version.h",
                ),
            ),
        ),
        SayStep(
            "`77d02ab` writes the **build time** into `version.h`. Two modules include it, so their cache key is new "
            "every night and both are rebuilt from scratch, 11.4 minutes each.\n\n"
            "Stamping the *commit* instead keeps the key stable:\n\n"
            "```cmake\nexecute_process(\n  COMMAND git rev-parse --short HEAD\n  OUTPUT_VARIABLE BUILD_ID\n"
            "  OUTPUT_STRIP_TRAILING_WHITESPACE)\n```"
        ),
    ),
)

_LIMITER = Script(
    key="limiter",
    ended=20 * _HOUR,
    prompt="You explain code to new colleagues.",
    steps=(
        UserStep("Explain how our rate limiter works, as if I had joined yesterday (I have).", 0.0),
        CallStep(
            "",
            (
                Tool(
                    "read_file",
                    {"path": "gateway/limit.py"},
                    "class Bucket:\n    def __init__(self, rate: float, burst: int) -> None:\n"
                    "        self.rate, self.burst = rate, burst\n        self.level, self.at = burst, monotonic()\n\n"
                    "    def take(self) -> bool:\n        now = monotonic()\n"
                    "        self.level = min(self.burst, self.level + (now - self.at) * self.rate)\n"
                    "        self.at = now\n"
                    "        if self.level < 1:\n            return False\n"
                    "        self.level -= 1\n        return True",
                ),
            ),
        ),
        SayStep(
            "Welcome! 🎉 It is a **token bucket**:\n\n"
            "- A bucket holds at most `burst` tokens; each request takes one.\n"
            "- Tokens flow back at `rate` per second, computed *lazily* when somebody asks.\n"
            "- An empty bucket means HTTP 429.\n\n"
            "```python\nlimiter = Bucket(rate=5, burst=20)   # 20 at once, then 5 a second\n```\n\n"
            "Note `monotonic()`: the limiter does not care when the wall clock jumps."
        ),
        UserStep("And why lazily?", 4.0),
        SayStep(
            "Because a timer for each of 80 000 buckets would do work all day for clients that sleep. "
            "Lazily, an idle bucket costs nothing but its 56 bytes."
        ),
    ),
)

_SETTINGS = Script(
    key="settings",
    title="Move the settings to TOML",
    ended=_DAY + 3 * _HOUR,
    steps=(
        UserStep("Move our settings from INI to TOML. Old files must keep working for one release.", 0.0),
        CallStep(
            "",
            (
                Tool(
                    "read_file",
                    {"path": "app/settings.py"},
                    "parser = configparser.ConfigParser()\nparser.read([SYSTEM, USER])",
                ),
            ),
        ),
        SayStep("Plan: read TOML first, fall back to INI with a deprecation warning, and write TOML only."),
        UserStep("Good. What about types? Everything is a string in INI.", 7.0),
        SayStep("A table of converters, used for INI alone: TOML brings its own types. Unknown keys are kept as text."),
        UserStep("Then please go on.", 1.0),
        CompactStep(
            1,
            3,
            4_960,
            1_180,
            "The user wants settings moved from INI to TOML; INI stays readable for one release. "
            "Plan: TOML first, INI with a warning, write TOML only.",
        ),
        # The second compaction of one run, as 0.2.0 recorded it: its range runs backwards and contains no message.
        CompactStep(7, 6, 5_020, 1_240, "TOML first, INI as a fallback with converters; unknown keys stay text."),
        CallStep(
            "",
            (
                Tool(
                    "write_file", {"path": "app/settings.py", "content": "import tomllib\n"}, "app/settings.py: written"
                ),
                Tool("run_command", {"command": "pytest -q tests/test_settings.py"}, "31 passed in 1.02s"),
            ),
        ),
        SayStep("Settings are TOML now; an INI file still works and says once where to move."),
    ),
)

_PASTE = Script(
    key="paste",
    name="The paste that turned my terminal red",
    ended=_DAY + 8 * _HOUR,
    steps=(
        UserStep(
            "This line from a vendor's log turned my whole terminal red. What does it do?\n\n"
            "\x1b[31m[bold red]ERROR[/bold red] disk full\x1b[2J\x1b]0;owned\x07\r[link=file:///etc/passwd]ok[/link]\n"
            "invoice_\u202efdp.exe\u202c  zero\u200bwidth  \x9b1mC1  \x00 NUL",
            0.0,
        ),
        SayStep(
            "It holds *escape sequences*, which a terminal obeys when they are printed raw:\n\n"
            "| sequence | meaning |\n|---|---|\n| `ESC [31m` | red text from here on |\n"
            "| `ESC [2J` | clear the screen |\n"
            "| `ESC ]0;…BEL` | set the window title |\n| `U+202E` | show what follows right to left |\n\n"
            "Look at such logs with `less` or `cat -v`, which make them visible instead. "
            "The `[bold red]` is only text."
        ),
    ),
)

_RELEASE = Script(
    key="release",
    title="Release notes for 4.2",
    archived=True,
    ended=2 * _DAY + 7 * _HOUR,
    steps=(
        UserStep("Draft the release notes for 4.2 from the merged pull requests.", 0.0),
        CallStep(
            "",
            (
                Tool(
                    "run_command",
                    {"command": "git log --merges --oneline v4.1..v4.2"},
                    "1f0c2aa Merge #812 dark mode\n0d5e771 Merge #809 faster search\nb0a9931 Merge #801 CSV export",
                ),
            ),
        ),
        SayStep(
            "## 4.2\n\n- **Dark mode** follows the system's setting (#812)\n- **Search** answers in a tenth of the "
            "time (#809)\n- **CSV export** of every table (#801)"
        ),
        UserStep("Perfect, ship it. 🚀", 3.0),
    ),
)

_SCRATCH = Script(key="scratch", ended=2 * _DAY + 9 * _HOUR)

_SURVIVOR = Script(
    key="benchmark",
    spec="benchmark",
    depth=1,
    lifecycle="detached",
    title="Benchmark the parser overnight",
    ended=13 * _HOUR,
    steps=(
        UserStep("Run the parser benchmark ten times and report the median of each format.", 0.0),
        CallStep(
            "",
            (
                Tool(
                    "run_command",
                    {"command": "python benchmarks/parse.py --repeat 10"},
                    "csv    1.82 s\nmt940  2.40 s\ncamt   6.95 s",
                    took=112,
                ),
            ),
        ),
        SayStep("Medians of ten runs: CSV 1.82 s, MT940 2.40 s, **CAMT 6.95 s**. XML parsing takes 80 % of the last."),
    ),
)

_ORPHAN = Script(
    key="flaky-names",
    spec="collector",
    depth=1,
    lifecycle="linked",
    parent="a session that is gone",
    ended=2 * _DAY + 10 * _HOUR,
    steps=(
        UserStep("Collect the names of all tests that failed and then passed in the last month.", 0.0),
        CallStep(
            "",
            (
                Tool(
                    "run_command",
                    {"command": "ci flaky --days 30"},
                    "tests/test_resume.py::test_resumes_after_crash  5\ntests/test_mail.py::test_bounce  1",
                ),
            ),
        ),
        SayStep("Two tests: `test_resumes_after_crash` (5 times) and `test_bounce` (once)."),
    ),
)

OTHERS = (_KEYS, _INVOICES, _NIGHTLY, _LIMITER, _SETTINGS, _PASTE, _RELEASE, _SCRATCH, _SURVIVOR, _ORPHAN)
