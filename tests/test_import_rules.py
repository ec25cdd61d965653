"""The map of the packages: who may import whom, and which libraries live where."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CORE = {"batch", "models", "scoring", "alerting", "pipeline"}
SHELL = {"stream", "delivery", "web", "bundles", "config"}

# Each package and module right under detector/, and what it may import from the others. "detector"
# itself holds the version alone, which everybody may read, as everybody may say how an extra is installed.
MAY_IMPORT: dict[str, set[str]] = {
    "batch": set(),
    "models": {"batch"},
    "scoring": {"models", "batch"},
    "alerting": {"scoring", "models", "batch"},
    "pipeline": {"alerting", "scoring", "models", "batch"},
    # The parts of the shell know the core, and not one another; but what is delivered comes from a topic.
    "stream": CORE,
    "delivery": CORE | {"stream"},
    "web": CORE,
    "bundles": CORE,
    "config": CORE,
    "extras": set(),
    "logs": set(),
    "signals": set(),
    "from_config": CORE | SHELL,
    "training": CORE | SHELL,
    "bootstrap": CORE | SHELL | {"from_config"},
    "daemon": CORE | SHELL | {"bootstrap", "from_config", "signals"},
    "notifier": CORE | SHELL | {"from_config", "signals"},
    "demo": CORE | SHELL | {"logs", "training", "daemon"},
    "explain": CORE | SHELL | {"from_config"},
    "cli": CORE
    | SHELL
    | {"logs", "from_config", "training", "bootstrap", "daemon", "notifier", "demo", "explain"},
}

# Library -> the packages that may import it; every other one may not.
ONLY_IN: dict[str, set[str]] = {
    "kafka": {"stream"},
    "confluent_kafka": {"stream"},
    "torch": {"training"},
    "hmmlearn": {"training"},
    "sklearn": {"training"},
}

# What the core may import from outside: numpy, scipy, and the pure part of the standard library.
CORE_LIBRARIES = {
    "numpy",
    "scipy",
    "__future__",
    "abc",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "fnmatch",
    "functools",
    "itertools",
    "math",
    "re",
    "typing",
    "types",
    "uuid",
    "hashlib",
    "struct",
    "warnings",
}

# Calls that the core may not make even on modules it may import.
DRAWS_HIDDEN_NUMBERS = {"np.random.seed", "numpy.random.seed", "uuid.uuid1", "uuid.uuid4"}
GLOBAL_GENERATOR = ("np.random.", "numpy.random.")
OWN_GENERATOR = {"Generator", "default_rng", "PCG64", "Philox", "SeedSequence", "BitGenerator"}

# Loading one of these runs code that the file brings along, or may.
NEVER = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"}
NEVER_BUT = {"joblib": {"training"}}


def owner_of(path: Path, package: Path) -> str:
    """Return the package or module right under detector/ that a file belongs to; "" for the root."""
    first = path.relative_to(package).parts[0]
    return first.removesuffix(".py") if first != "__init__.py" else ""


def imported_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            if prefix == "detector":
                yield from ((node.lineno, f"detector.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, prefix


def broken_rules(package: Path) -> list[str]:
    """Return one line per broken rule: file, line, what, and why not."""
    found: list[str] = []
    for path in sorted(package.rglob("*.py")):
        owner = owner_of(path, package)
        tree = ast.parse(path.read_text(), str(path))
        where = path.relative_to(package.parent)
        if owner and owner not in MAY_IMPORT and owner != "__main__":
            found.append(f"{where}:1: {owner} is not on the map; give it a line in MAY_IMPORT")
            continue
        for line, name in imported_names(tree):
            found.extend(f"{where}:{line}: {problem}" for problem in import_problems(owner, name))
        if owner in CORE:
            found.extend(f"{where}:{line}: {problem}" for line, problem in hidden_inputs(tree))
    return found


def import_problems(owner: str, name: str) -> Iterator[str]:
    """Yield what is wrong with one import in a package."""
    if name.startswith("."):
        yield f"relative import {name!r}; write the whole name"
        return
    top, _, rest = name.partition(".")
    if top == "detector":
        target = rest.partition(".")[0]
        allowed = MAY_IMPORT.get(owner, set())
        if target not in {"", "__version__", "extras", owner} and target not in allowed:
            yield f"{owner or 'detector'} imports detector.{target}; it may import {sorted(allowed)}"
        return
    if top in ONLY_IN and owner not in ONLY_IN[top]:
        yield f"{owner} imports {top}, which only {sorted(ONLY_IN[top])} may"
    if top in NEVER and owner not in NEVER_BUT.get(top, set()):
        yield f"{owner} imports {top}, which can run code from the data it reads"
    if owner in CORE and top not in CORE_LIBRARIES:
        yield f"{owner} is core and imports {top}; numpy, scipy and pure standard library only"


def hidden_inputs(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield uses of hidden state in the core: the global random generator, random ids, printing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            drawn = name.startswith(GLOBAL_GENERATOR) and name.split(".")[2] not in OWN_GENERATOR
            if drawn or name in DRAWS_HIDDEN_NUMBERS:
                yield node.lineno, f"core uses {name}; randomness arrives as an argument"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "open", "input"}:
            yield node.lineno, f"core calls {ast.unparse(node.func)}"


def test_imports_point_one_way() -> None:
    assert broken_rules(ROOT / "detector") == []


def test_tests_repeat_the_packages_folder_for_folder() -> None:
    mirrored = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and any(p.glob("test_*.py"))}
    on_the_map = set(MAY_IMPORT) | {"system", "deploy", "kafka", "examples", "benchmarks", "conformance"}
    assert mirrored <= on_the_map


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("models/gmm.py", "from detector.scoring import tail\n", "models imports detector.scoring"),
        ("models/gmm.py", "from detector import scoring\n", "models imports detector.scoring"),
        ("models/gmm.py", "def f():\n    import sklearn.mixture\n", "imports sklearn, which only"),
        ("models/gmm.py", "import time\n", "is core and imports time"),
        ("models/gmm.py", "import logging\n", "is core and imports logging"),
        ("models/gmm.py", "import numpy as np\nx = np.random.normal()\n", "core uses np.random.normal"),
        ("alerting/event.py", "import uuid\nx = uuid.uuid4()\n", "core uses uuid.uuid4"),
        ("alerting/event.py", "print(1)\n", "core calls print"),
        ("batch.py", "from detector.models import gmm\n", "batch imports detector.models"),
        ("pipeline/run.py", "import detector.bundles.store\n", "pipeline imports detector.bundles"),
        ("stream/loop.py", "from detector.web.metrics import Metrics\n", "stream imports detector.web"),
        ("web/metrics.py", "from detector.stream import observer\n", "web imports detector.stream"),
        ("web/metrics.py", "from kafka import KafkaConsumer\n", "web imports kafka"),
        ("stream/loop.py", "import torch\n", "stream imports torch"),
        ("stream/loop.py", "from detector.daemon import run\n", "stream imports detector.daemon"),
        ("notifier.py", "from detector.daemon import run\n", "notifier imports detector.daemon"),
        ("explain/text.py", "from detector.daemon import run\n", "explain imports detector.daemon"),
        ("bundles/store.py", "import pickle\n", "can run code"),
        ("stream/loop.py", "from . import codec\n", "relative import"),
        ("extra/new.py", "", "extra is not on the map"),
    ],
)
def test_each_rule_can_fail(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    path = tmp_path / "detector" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    problems = broken_rules(tmp_path / "detector")
    assert any(complaint in problem for problem in problems), problems


def test_a_good_tree_breaks_no_rule(tmp_path: Path) -> None:
    good = {
        "__init__.py": '__version__ = "1"\n',
        "batch.py": "import numpy as np\nrng = np.random.default_rng(1)\n",
        "models/gmm.py": "from detector.batch import Batch\nfrom scipy.special import logsumexp\n",
        "training/fit.py": "def fit():\n    import torch\n    from detector.models import gmm\n",
        "cli/main.py": "from detector import __version__\nfrom detector import daemon\n",
    }
    for name, source in good.items():
        path = tmp_path / "detector" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    assert broken_rules(tmp_path / "detector") == []
