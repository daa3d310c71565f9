"""What is installed here, what is missing, and what that means for whom.

Versions alone prove little: a wheel of torch that does not fit its torchvision has one, too. So each
library is imported, in another process, which a broken one may take down: the rest is then imported in
a new one.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apsw

from nearsql import __version__
from nearsql.pipeline.estimate import size_in_words
from nearsql.udfs.search.memory import MEMORY_VARIABLE, memory_limit
from nearsql.udfs.search.workers import worker_count

# Distribution, the module to import, what it is for. The core's first: they come with nearsql.
CORE = (
    ("sqlite-vec", "sqlite_vec", "the vec_* functions and vec0 indexes"),
    ("numpy", "numpy", "vectors"),
    ("faiss-cpu", "faiss", "kNN and indexes"),
    ("hdbscan", "hdbscan", "clusters"),
    ("numba", "numba", "clusters and maps"),
    ("umap-learn", "umap", "maps"),
    ("openTSNE", "openTSNE", "maps by t-SNE"),
    ("evoc", "evoc", "topics"),
    ("scikit-learn", "sklearn", "tf-idf, PCA, folds, metrics"),
    ("pillow", "PIL.Image", "images"),
    ("pycocotools", "pycocotools.mask", "masks"),
    ("sqlite-utils", "sqlite_utils", "the shell face"),
    ("datasette", "datasette.app", "the browser face"),
)
# By extra: what works only with it.
EXTRAS = {
    "vision": (
        ("torch", "torch", "`nearsql detect`, and `embed` with clip, dino, timm, text"),
        ("torchvision", "torchvision", "detectors and image models"),
        ("ultralytics", "ultralytics", "`nearsql detect`, `loss-distance`"),
        (
            "open_clip_torch",
            "open_clip",
            "`nearsql embed --model clip:NAME`, embed_text of its spaces",
        ),
        ("timm", "timm", "`nearsql embed --model timm:NAME` and `dino:NAME`"),
    ),
    "text": (
        ("sentence-transformers", "sentence_transformers", "`nearsql embed --model text:NAME`"),
    ),
    "llm": (("llm", "llm", "`nearsql label --method llm`, `embed --model llm:NAME`"),),
    "ray": (("ray", "ray", "more than one machine"),),
    "parquet": (("pyarrow", "pyarrow.parquet", "parquet files"),),
    "plot": (
        ("matplotlib", "matplotlib", "`nearsql plot`"),
        ("datamapplot", "datamapplot", "labelled maps of `nearsql plot`"),
    ),
    "mlflow": (("mlflow-skinny", "mlflow", "`--track mlflow`"),),
    "wandb": (("wandb", "wandb", "`--track wandb`"),),
}

COLUMNS = ("what", "is", "version", "extra", "remark")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was looked at. state: ok, missing (an extra that is not installed) or broken."""

    what: str
    state: str
    version: str | None = None
    extra: str | None = None
    remark: str | None = None


def examine() -> Iterator[Fact]:
    """This installation, one fact after the other: the machine, the core, the extras."""
    yield Fact("nearsql", "ok", __version__, None, f"in {sys.prefix}")
    yield Fact("python", "ok", platform.python_version(), None, platform.platform())
    yield _sqlite()
    yield _memory()
    yield _threads()
    libraries: list[tuple[str, str, str, str | None]] = [(*library, None) for library in CORE]
    libraries += [(*library, extra) for extra, several in EXTRAS.items() for library in several]
    versions = {distribution: _version(distribution) for distribution, *_ in libraries}
    problems = import_problems([module for name, module, *_ in libraries if versions[name]])
    for distribution, module, purpose, extra in libraries:
        version = versions[distribution]
        yield _library(distribution, version, problems.get(module), purpose, extra)
    if versions.get("torch"):
        yield _device()


def _sqlite() -> Fact:
    has_fts = "ENABLE_FTS5" in apsw.compile_options
    remark = None if has_fts else "it has no FTS5: `nearsql index --text` cannot work"
    return Fact("sqlite", "ok" if has_fts else "broken", apsw.sqlite_lib_version(), None, remark)


def _memory() -> Fact:
    source = f"by {MEMORY_VARIABLE}" if os.environ.get(MEMORY_VARIABLE) else "half of the machine's"
    return Fact("memory for vectors", "ok", size_in_words(memory_limit()), None, source)


def _threads() -> Fact:
    limit = os.environ.get("OMP_NUM_THREADS")
    remark = f"OMP_NUM_THREADS is {limit}" if limit else None
    return Fact("threads", "ok", str(worker_count()), None, remark)


def _library(
    distribution: str, version: str | None, problem: str | None, purpose: str, extra: str | None
) -> Fact:
    if version is None and extra is None:
        return Fact(distribution, "broken", None, None, f"it is not installed: no {purpose}")
    if version is None:
        how = f"no {purpose}: pip install 'nearsql[{extra}]'"
        return Fact(distribution, "missing", None, extra, how)
    state = "ok" if problem is None else "broken"
    return Fact(distribution, state, version, extra, problem or f"for {purpose}")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


_IMPORT_ALL = """
import importlib, json, sys
for name in sys.argv[1:]:
    print(json.dumps(name), flush=True)
    try:
        importlib.import_module(name)
    except BaseException as error:
        print(json.dumps([name, f"{type(error).__name__}: {error}"]), flush=True)
print(json.dumps(None), flush=True)
"""


def import_problems(modules: Sequence[str]) -> dict[str, str]:
    """Why modules cannot be imported, in their own words, by their names; without those that can."""
    # As nearsql imports them: nothing is installed, downloaded or reported on the way.
    environment = {
        **os.environ,
        "YOLO_AUTOINSTALL": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",
    }
    problems: dict[str, str] = {}
    left = list(modules)
    while left:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT_ALL, *left],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            check=False,
        )
        last = None
        for line in done.stdout.splitlines():
            try:
                said = json.loads(line)
            except ValueError:  # a library's own words
                continue
            if isinstance(said, list):
                problems[said[0]] = f"importing {said[0]}: {said[1]}"
            else:
                last = said
        if last is None:  # it came to the end
            return problems
        problems[last] = f"importing {last} ends the process (exit code {done.returncode})"
        left = left[left.index(last) + 1 :]
    return problems


_ASK_TORCH = """
import json, torch
found = ["cuda: " + torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
found += ["mps: Apple's GPU"] * torch.backends.mps.is_available()
print(json.dumps(found))
"""


def _device() -> Fact:
    done = subprocess.run(
        [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return Fact("device", "broken", None, None, "torch cannot be asked for GPUs")
    found = json.loads(done.stdout.splitlines()[-1])
    if not found:
        return Fact("device", "ok", "cpu", None, "there is no GPU: models compute on the CPU")
    return Fact("device", "ok", ", ".join(found), None, "models compute on it")
