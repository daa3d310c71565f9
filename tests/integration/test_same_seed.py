"""The same seed gives the same bytes: in another process, with other threads and another hash seed.

Run as a program, this file prints the hashes that its test compares.
"""

import hashlib
import os
import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits

from nearsql.udfs.clustering.topics import TopicSettings, topics
from nearsql.udfs.map_places import MemberPlaces
from nearsql.udfs.projection import METHODS, Settings, project
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.spaces import Metric, Space

METRICS: tuple[Metric, ...] = ("l2", "cosine")


def hashes() -> list[str]:
    """One line for each map, for points placed on it, and for each level of topics."""
    rows = load_digits().data[:240].astype("<f4")
    lines = []
    for metric in METRICS:
        members = Matrix(np.arange(200), rows[:200], Space(1, "s", 64, metric, 0, 0))
        found = {}
        for method in METHODS:
            settings = Settings(method)
            found[method] = project(members, settings).coordinates
            if method != "pca":
                model = MemberPlaces(members, found[method], settings)
                found[method + ", placed"] = model.place(rows[200:])
        for number, level in enumerate(topics(members, TopicSettings()), start=1):
            found[f"topics, level {number}"] = np.append(level.labels, level.probabilities)
        for name, values in found.items():
            lines.append(f"{metric}, {name}: {hashlib.sha256(values.tobytes()).hexdigest()}")
    return lines


def test_maps_and_topics_are_the_same_in_another_process() -> None:
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONHASHSEED": "7", "NUMBA_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) >= 2 * 5 + 2
    assert done.stdout.splitlines() == hashes()


if __name__ == "__main__":
    print("\n".join(hashes()))
