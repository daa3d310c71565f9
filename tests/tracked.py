"""What the tests of trackers share: a file with runs to tell of, and readers of what was told."""

import io
import json
import os
import struct
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from evaluated import fill
from PIL import Image

from nearsql.udfs import connection, dbapi

# A wandb file is a log in blocks, as LevelDB writes it: first a mark, then records in pieces.
_BLOCK, _MARK, _HEADER = 32_768, 7, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# Metrics of an evaluation that are curves over k.
CURVES = (
    "select s.name, m.weighting, m.metric, m.k, m.value from cv_metrics m join spaces s on s.id ="
)
CURVES += " m.space_id where m.run_id = ? and m.fold is null"


def two_colours(path: Path) -> Path:
    """Thirty texts in two heaps, a label on each, in a space whose name no tracker likes."""
    random = np.random.default_rng(1)
    vectors = np.concatenate([random.normal(c, 0.1, (15, 3)) for c in (0, 2)]).astype(np.float32)
    labels = ["red"] * 14 + ["blue"] * 16
    return fill(path, {"a space/with (words)": (vectors, "l2")}, {"colour": labels})


def in_a_process(folder: Path, commands: list[list[object]], **environ: str) -> list[tuple]:
    """Runs these commands one after the other in one new process; gives (exit code, output) of each."""
    program = (
        "import json, sys\n"
        "from click.testing import CliRunner\n"
        "from nearsql.pipeline.cli import cli\n"
        "for words in json.load(sys.stdin):\n"
        "    done = CliRunner().invoke(cli, words)\n"
        "    what = done.output\n"
        "    if done.exception is not None and not isinstance(done.exception, SystemExit):\n"
        "        what += f'{type(done.exception).__name__}: {done.exception}'\n"
        "    print(json.dumps([done.exit_code, what]), file=sys.__stdout__, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([[str(word) for word in words] for words in commands]),
        env={**os.environ, **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def curves(path: Path, run: int) -> dict[tuple[str, int], float]:
    """(metric/space/weighting, k) -> value, as the file has it."""
    with closing(connection.connect(path)) as db:
        rows = db.execute(CURVES, (run,)).fetchall()
    return {
        (f"{metric}/{space}/{weighting}", k): value
        for space, weighting, metric, k, value in rows
        if value is not None
    }


def record(db: dbapi.Connection, run: int) -> dict[str, Any]:
    """The recorded parameters, counts and versions of a run."""
    names = ("parameters", "counts", "versions", "timings")
    row = db.execute(
        "select parameters_json, counts_json, versions_json, timings_json from runs where id = ?",
        (run,),
    ).fetchone()
    return {name: json.loads(text) for name, text in zip(names, row, strict=True)}


@dataclass
class OfflineRun:
    """What a folder of wandb's offline mode says of one run."""

    title: str = ""
    project: str = ""
    job_type: str = ""
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    steps: dict[str, str] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)


def read_offline(folder: Path) -> OfflineRun:
    """Reads the one log in the folder of an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    (log,) = folder.glob("run-*.wandb")
    found = OfflineRun()
    for data in _log_records(log.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        found.kinds.add(kind)
        if kind == "run":
            found.title, found.project = record.run.display_name, record.run.project
            found.job_type = record.run.job_type
            for item in record.run.config.update:
                found.config[item.key] = json.loads(item.value_json)
        elif kind == "config":
            for item in record.config.update:
                found.config[item.key] = json.loads(item.value_json)
        elif kind == "summary":
            for item in record.summary.update:
                found.summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                *above, name = item.nested_key or [item.key]
                inner = row
                for part in above:
                    inner = inner.setdefault(part, {})
                inner[name] = json.loads(item.value_json)
            found.history.append(row)
        elif kind == "metric":
            name = record.metric.name or record.metric.glob_name
            found.steps[name] = record.metric.step_metric
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def _log_records(data: bytes) -> list[bytes]:
    assert data[:4] == b":W&B"
    records, parts, at = [], b"", _MARK
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", data, at)
        assert kind in (_WHOLE, _FIRST, _MIDDLE, _LAST)
        piece = data[at + _HEADER : at + _HEADER + length]
        parts = piece if kind in (_WHOLE, _FIRST) else parts + piece
        if kind in (_WHOLE, _LAST):
            records.append(parts)
        at += _HEADER + length
    return records


def is_png(data: bytes) -> bool:
    """Whether these bytes are a picture that can be opened."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture.format == "PNG" and min(picture.size) > 100
