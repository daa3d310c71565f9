"""What a run was asked to measure, and the files that its sections share."""

import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks.search.data import clustered_blocks, fill

LARGE = (1_000_000, 768)


class Refused(Exception):
    """What was asked cannot be done: one sentence."""


@dataclass
class Setup:
    """One run."""

    folder: Path  # for its files; deleted afterwards
    n: int
    d: int
    threads: int
    rounds: int
    quick: bool = False
    large: bool = False
    assets: Path | None = None
    _files: dict[tuple[int, int], Path] = field(default_factory=dict)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(n, d) of the synthetic spaces that single queries are measured on."""
        return [(self.n, self.d), *([LARGE] if self.large and (self.n, self.d) != LARGE else [])]

    @cached_property
    def thread_counts(self) -> list[int]:
        """One, and as many as asked for."""
        return sorted({1, self.threads})

    def file(self, n: int, d: int) -> Path:
        """A database with a space of n clustered unit vectors, by cosine; made when first asked for."""
        if (n, d) not in self._files:
            needed = 4 * n * d
            if shutil.disk_usage(self.folder).free < 3 * needed:
                raise Refused(
                    f"{n:,} x {d} needs {3 * needed / 1e9:.0f} GB of disk in {self.folder}: "
                    "set TMPDIR to a folder that has them, or ask for fewer with --n"
                )
            path = self.folder / f"{n}x{d}.db"
            fill(path, clustered_blocks(n, d), d, "cosine")
            self._files[n, d] = path
        return self._files[n, d]
