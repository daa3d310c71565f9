"""What was measured, when and how: kept as JSON lines, so that a page can be made anew from them."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks.search.measure import Figure

LIBRARIES = (
    "nearsql",
    "apsw",
    "numpy",
    "faiss-cpu",
    "sqlite-vec",
    "hnswlib",
    "usearch",
    "datasette",
)


@dataclass
class Result:
    """The figures of one section for one case, such as `100,000 x 768`."""

    section: str
    case: str
    n: int
    d: int
    threads: int
    figures: list[Figure]
    # What could not be measured, and why.
    missing: dict[str, str] = field(default_factory=dict)
    measured_at: str = ""
    command: str = ""
    load: float = 0.0  # the machine's, in the minute before it began
    machine: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Figure | None:
        """The figure of that name."""
        return next((one for one in self.figures if one.name == name), None)

    def value(self, name: str) -> float:
        """The value of that name. Raises KeyError when it was not measured."""
        found = self.get(name)
        if found is None:
            raise KeyError(f"{self.section}, {self.case}: {name}")
        return found.value


def case(n: int, d: int) -> str:
    """`100,000 x 768`"""
    return f"{n:,} x {d}"


def now() -> str:
    """The time, in UTC, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def load() -> float:
    """How many processes wanted a core, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def machine() -> dict[str, str]:
    """Processor, cores, memory, system, and the version of each library."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "?"),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    for name in LIBRARIES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    name = facts.get("model name", platform.machine())
    numbers = [facts.get(key) for key in ("cpu family", "model")]
    vectors = [name for name in ("avx2", "avx512f") if name in facts.get("flags", "").split()]
    if all(numbers):
        name += f" (family {numbers[0]}, model {numbers[1]}; {', '.join(vectors) or 'no AVX2'})"
    return name


def read(path: Path) -> list[Result]:
    """The stored results; none when there is no such file."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row["figures"] = [Figure(**figure) for figure in row["figures"]]
        found.append(Result(**row))
    return found


def merged(older: Iterable[Result], newer: Iterable[Result]) -> list[Result]:
    """Both, where a newer result takes the place of the older one of the same section and case."""
    by_key = {(one.section, one.case, one.threads): one for one in older}
    by_key.update({(one.section, one.case, one.threads): one for one in newer})
    return list(by_key.values())


def write(path: Path, found: Iterable[Result]) -> None:
    """Writes one line of JSON for each result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(one), ensure_ascii=False, allow_nan=False) for one in found]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
