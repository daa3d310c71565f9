"""Two clusterings: what became of the clusters of one in the other, and which items moved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from nearsql.pipeline.console import command_line
from nearsql.pipeline.diff.compared import Asked, Rows, fetched
from nearsql.pipeline.diff.records import Record, differences
from nearsql.pipeline.output import column_names
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class ClusteringDiff:
    """A level of each of two clustering runs. agreement: the columns of SQL's cluster_agreement."""

    a: Record
    b: Record
    level_a: int
    level_b: int
    agreement: dict[str, Any]

    dull: ClassVar[Mapping[str, str | None]] = {
        "name_a": None,
        "name_b": None,
        "uri": None,
        "text": None,
        "compared_a": "size_a",
        "compared_b": "size_b",
    }

    @property
    def title(self) -> str:
        if self.level_a == self.level_b == 1:
            return f"run {self.a.id} and run {self.b.id}"
        return f"run {self.a.id}, level {self.level_a}, and run {self.b.id}, level {self.level_b}"

    def rows(self, db: dbapi.Connection) -> Rows:
        """A row a pair of counterparts, or a cluster without one: cluster_diff's, with names."""
        return fetched(db.execute(read_sql(__package__, "clusters"), self._arguments()))

    def items(self, db: dbapi.Connection) -> Rows:
        """A row an item that left its cluster: cluster_moves', with what the item is."""
        return fetched(db.execute(read_sql(__package__, "moves"), self._arguments()))

    def facts(self, db: dbapi.Connection) -> dict[str, Any]:
        agreement = self.agreement
        facts: dict[str, Any] = {"items in both": agreement["items"]}
        for name, run in (("only_a", self.a.id), ("only_b", self.b.id)):
            if agreement[name]:
                facts[f"only in {run}"] = agreement[name]
        facts["clusters"] = f"{agreement['clusters_a']:,} -> {agreement['clusters_b']:,}"
        facts["noise"] = f"{agreement['noise_a']:,} -> {agreement['noise_b']:,}"
        facts["changes"] = _changes(self._count_changes(db))
        facts["items that moved"] = (
            f"{agreement['moved']:,} to another cluster, {agreement['to_noise']:,} to noise,"
            f" {agreement['from_noise']:,} from noise"
        )
        facts["agreement"] = _agreement(agreement["ari"], agreement["ami"])
        if agreement["noise_a"] or agreement["noise_b"]:
            facts["without noise"] = (
                _agreement(agreement["ari_in_clusters"], agreement["ami_in_clusters"])
                + f", of {agreement['in_clusters']:,} items"
            )
        return facts | differences(self.a, self.b)

    def next_step(self, file: str, items: bool) -> str | None:
        words: list[object] = ["nearsql", "diff", file, self.a.id, self.b.id]
        if self.level_a != 1:
            words += ["--level", self.level_a]
        if self.level_b != self.level_a:
            words += ["--level-b", self.level_b]
        moved = sum(self.agreement[name] for name in ("moved", "to_noise", "from_noise"))
        return command_line(*words, "--items") if moved and not items else None

    def _count_changes(self, db: dbapi.Connection) -> dict[str | None, tuple[int, int, int]]:
        """By change: how many rows `rows` has of it, and clusters of either run in them."""
        rows = db.execute(
            "select change, count(*), count(distinct cluster_a), count(distinct cluster_b)"
            " from cluster_diff(:run_a, :run_b, :level_a, :level_b) group by change",
            self._arguments(),
        )
        return {change: (pairs, of_a, of_b) for change, pairs, of_a, of_b in rows}

    def _arguments(self) -> dict[str, int]:
        return {
            "run_a": self.a.id,
            "run_b": self.b.id,
            "level_a": self.level_a,
            "level_b": self.level_b,
        }


def compare(db: dbapi.Connection, a: Record, b: Record, asked: Asked) -> ClusteringDiff:
    """Compares a level of one clustering run with a level of another, or of the same."""
    asked.refuse_others("clusterings", ("level", "level_b"))
    level = asked.level or 1
    level_b = asked.level_b or level
    cursor = db.execute("select * from cluster_agreement(?, ?, ?, ?)", (a.id, b.id, level, level_b))
    agreement = dict(zip(column_names(cursor), cursor.fetchone(), strict=True))
    return ClusteringDiff(a, b, level, level_b, agreement)


def _changes(counts: dict[str | None, tuple[int, int, int]]) -> str:
    """The changes in words; of those that many clusters share, how many became how many."""
    words = {
        "same": "{0:,} the same",
        "split": "{1:,} split into {2:,}",
        "merged": "{1:,} merged into {2:,}",
        "mixed": "{0:,} parts joined others",
        "gone": "{1:,} gone",
        "new": "{2:,} new",
        None: "{0:,} not compared",
    }
    said = [form.format(*counts[change]) for change, form in words.items() if change in counts]
    return ", ".join(said) or "none: neither has clusters"


def _agreement(ari: float | None, ami: float | None) -> str:
    if ari is None or ami is None:
        return "not defined: fewer than 2 items"
    return f"ARI {ari:.3f}, AMI {ami:.3f}"
