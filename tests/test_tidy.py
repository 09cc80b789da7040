"""The rules of style, as tests: a rule that is not checked is no rule.

What a linter already holds (ruff, mypy, import-linter) is not repeated here, except where the rule is a promise of the
architecture and must not depend on a line of configuration.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("api", "domain", "infra", "migrations", "projections")

MODULE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 70
REASON_CHARACTERS_MIN: Final = 10

NAMES_THAT_SAY_NOTHING: Final = frozenset(
    {"utils", "helpers", "common", "base", "core", "manager", "service", "repository", "schemas"}
)

# What the domain may import: pure parts of the standard library, msgspec, and itself.
PURE: Final = frozenset(
    {"base64", "bisect", "collections", "dataclasses", "datetime", "decimal", "domain", "enum", "fractions"}
    | {"functools", "hashlib", "heapq", "hmac", "ipaddress", "itertools", "json", "math", "msgspec", "operator", "re"}
    | {"string", "struct", "types", "typing", "unicodedata", "urllib.parse", "uuid", "zoneinfo"}
)
IMPURE_BUILTINS: Final = frozenset({"__import__", "breakpoint", "eval", "exec", "input", "open", "print"})

# `time.monotonic` and `time.perf_counter` are missing on purpose: they measure a duration and tell no time.
CLOCKS: Final = frozenset(
    {f"datetime.{name}" for name in ("now", "today", "utcnow")}
    | {"date.today"}
    | {f"time.{name}" for name in ("gmtime", "localtime", "time", "time_ns")}
)
FRESH_IDS: Final = frozenset({"uuid1", "uuid4", "uuid6", "uuid7", "uuid8"})
ENVIRONMENT: Final = frozenset(
    f"os.{name}" for name in ("environ", "environb", "getenv", "getenvb", "putenv", "unsetenv")
)
ENVIRONMENT_OPTIONS: Final = frozenset({"auto_envvar_prefix", "envvar"})  # click reads the environment for these

# Modules of api/ that are no HTTP handlers and may speak SQL.
SQL_ALLOWED: Final[tuple[str, ...]] = ()
SQL: Final = re.compile(r"\b(SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s")

SUPPRESSION: Final = re.compile(
    r"(?P<noqa>noqa(:\s*[A-Z]+\d+(,?\s*[A-Z]+\d+)*)?)"
    r"|(?P<types>type:\s*ignore(\[[^\]]*\])?)"
    r"|(?P<coverage>pragma:\s*no\s+(cover|branch))"
)
NAMED: Final = re.compile(r"`((?:api|docs|domain|infra|migrations|projections|tests)/[\w./]*\w)(?:::(\w+))?")
LEFT_OPEN: Final = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X)\b")


class Module(NamedTuple):
    """A source file: its path from the root, its text, and its syntax tree."""

    path: str
    text: str
    tree: ast.Module


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Every Python file below these folders of the root."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    return tuple(Module(path, text, ast.parse(text, path)) for path, text in texts.items())


def _comments(module: Module) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _public(body: list[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def _imports(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name; `from a import b` gives `a.b`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{name.name}") for name in node.names)


def _uses(module: Module) -> Iterator[tuple[int, str]]:
    """Yield line and last two parts of every dotted name read or imported, a plain name as itself."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, f"{ast.unparse(node.value).rpartition('.')[2]}.{node.attr}"
    yield from ((line, ".".join(name.split(".")[-2:])) for line, name in _imports(module))


def _tells_time_or_makes_ids(module: Module) -> Iterator[str]:
    for line, name in _uses(module):
        if name in CLOCKS or name.rpartition(".")[2] in FRESH_IDS:
            yield f"{module.path}:{line}: {name}"


def _is_error_status(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and 400 <= node.value <= 599


def test_modules_are_short() -> None:
    """A module has at most 400 lines; a revision of the schema is as long as the tables that it makes."""
    lengths = {
        module.path: module.text.count("\n")
        for module in modules(*PACKAGES, "tests")
        if not module.path.startswith("migrations/versions/")
    }
    assert {path: lines for path, lines in lengths.items() if lines > MODULE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    """A function has at most 70 lines, decorators not counted."""
    assert [
        f"{module.path}:{node.lineno}: {node.name} has {lines} lines"
        for module in modules(*PACKAGES, "tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ] == []


def test_modules_are_named_after_what_they_hold() -> None:
    """No module or folder has a name under which anything could be put."""
    assert [
        module.path
        for module in modules(*PACKAGES, "tests")
        if NAMES_THAT_SAY_NOTHING & {part.removeprefix("test_") for part in Path(module.path).with_suffix("").parts}
    ] == []


def test_everything_public_has_a_docstring() -> None:
    """Every public module, class, function and test says in a sentence what it is; a bare test folder need not."""
    silent = []
    for module in modules(*PACKAGES, "tests"):
        if not module.text.strip() and module.path.startswith("tests/"):
            continue
        for node in (module.tree, *_public(module.tree.body)):
            first_line = (ast.get_docstring(node) or "").partition("\n")[0]
            if not first_line.endswith((".", "?", "!")):
                silent.append(f"{module.path}:{getattr(node, 'lineno', 1)}: {getattr(node, 'name', 'the module')}")
    assert silent == []


def test_the_domain_imports_only_what_is_pure() -> None:
    """The domain is built from msgspec and the parts of the standard library that touch nothing outside."""
    assert [
        f"{module.path}:{line}: {name}"
        for module in modules("domain")
        for line, name in _imports(module)
        if not PURE & {name.split(".")[0], ".".join(name.split(".")[:2])}
    ] == []


def test_the_domain_has_no_clock_no_random_and_no_io() -> None:
    """The domain reads no clock, makes no ids, and calls nothing that reads, writes or evaluates."""
    clocks = [found for module in modules("domain") for found in _tells_time_or_makes_ids(module)]
    calls = [
        f"{module.path}:{line}: {name}"
        for module in modules("domain")
        for line, name in _uses(module)
        if name in IMPURE_BUILTINS
    ]
    assert clocks + calls == []


def test_structs_are_frozen_and_take_keywords() -> None:
    """Every msgspec struct repeats `frozen=True, kw_only=True`, because type checkers do not inherit them."""
    classes = [
        (module, node, {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases})
        for module in modules(*PACKAGES)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    structs = {"Struct"}
    while more := {node.name for _, node, bases in classes if bases & structs} - structs:
        structs |= more
    assert [
        f"{module.path}:{node.lineno}: {node.name}"
        for module, node, bases in classes
        if bases & structs and not {"frozen=True", "kw_only=True"} <= {ast.unparse(word) for word in node.keywords}
    ] == []


def test_only_settings_read_the_environment() -> None:
    """Nothing but infra/settings.py touches environment variables, not even by an option of click."""
    elsewhere = [module for module in modules(*PACKAGES) if module.path != "infra/settings.py"]
    read = [
        f"{module.path}:{line}: {name}" for module in elsewhere for line, name in _uses(module) if name in ENVIRONMENT
    ]
    options = [
        f"{module.path}:{node.lineno}: {node.arg}"
        for module in elsewhere
        for node in ast.walk(module.tree)
        if isinstance(node, ast.keyword) and node.arg in ENVIRONMENT_OPTIONS
    ]
    assert read + options == []


def test_only_the_clock_knows_the_time() -> None:
    """Nothing but infra/clock.py asks what time it is or makes a fresh id."""
    elsewhere = [module for module in modules(*PACKAGES) if module.path != "infra/clock.py"]
    assert [found for module in elsewhere for found in _tells_time_or_makes_ids(module)] == []


def test_only_problems_know_error_numbers_of_http() -> None:
    """No 4xx or 5xx is given as a status or a documented response outside api/problems.py."""
    elsewhere = [module for module in modules(*PACKAGES) if module.path != "api/problems.py"]
    names = [
        f"{module.path}:{line}: {name}"
        for module in elsewhere
        for line, name in _uses(module)
        if re.search(r"\bHTTP_[45]", name)
    ]
    numbers = [
        f"{module.path}:{node.value.lineno}: {node.arg}"
        for module in elsewhere
        for node in ast.walk(module.tree)
        if isinstance(node, ast.keyword) and node.arg in {"responses", "status", "status_code"}
        if any(_is_error_status(part) for part in ast.walk(node.value))
    ]
    assert names + numbers == []


def test_handlers_contain_no_sql() -> None:
    """HTTP handlers call infra and projections; SQL stands there."""
    assert [
        f"{module.path}:{node.lineno}: {node.value[:40]!r}"
        for module in modules("api")
        if module.path not in SQL_ALLOWED
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ] == []


def test_every_suppression_has_a_reason() -> None:
    """A comment that silences a tool says why in the same line."""
    bare = []
    for module in modules(*PACKAGES, "tests"):
        for line, comment in _comments(module):
            reason = re.sub(r"[#\s]", "", SUPPRESSION.sub("", comment))
            if SUPPRESSION.search(comment) and len(reason) < REASON_CHARACTERS_MIN:
                bare.append(f"{module.path}:{line}: {comment}")
    assert bare == []


def test_nothing_is_left_open() -> None:
    """What remains to be done stands in an issue, not in a comment."""
    assert [
        f"{module.path}:{line}: {comment}"
        for module in modules(*PACKAGES, "tests")
        for line, comment in _comments(module)
        if LEFT_OPEN.search(comment)
    ] == []


def test_the_lock_names_version_and_hash_and_no_address() -> None:
    """Every locked package is pinned by version and hash, and may come from any index."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.findall(r"^\S.*(?:\n +--hash=.*)*", lock, flags=re.MULTILINE)
    pinned = re.compile(r"[\w.-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", flags=re.DOTALL)
    assert [entry for entry in entries if not pinned.match(entry)] == []
    assert "://" not in lock


def test_documents_name_what_there_is() -> None:
    """The files that a document names are there, and the tests in them."""
    missing = []
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for path, test in NAMED.findall(document.read_text(encoding="utf-8")):
            file = ROOT / path
            if not file.exists() or (test and f"def {test}(" not in file.read_text(encoding="utf-8")):
                missing.append(f"{document.name}: {path}::{test}")
    assert missing == []
