"""The engine of many machines: workers of a Ray cluster compute, this process reads and writes.

Each worker loads the model once and is sent batches, two at a time, so that it decodes one while it computes
the other. What is on its way is bounded. A worker that dies is replaced, and what it had is done again by
another; nothing is written but complete results, in the order of their batches.
"""

import importlib.metadata
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from nearsql import __version__
from nearsql.pipeline.console import UserError, say
from nearsql.pipeline.engines import Besides, Facts, Task
from nearsql.pipeline.engines.ray_cluster import connected, import_ray
from nearsql.pipeline.engines.ray_worker import Answer, Loaded, Worker
from nearsql.pipeline.runs import Run, immediate

# Batches that a worker has at a time: one is prepared while the other is computed.
_AT_ONCE = 2
# Batches on their way, results that wait for an earlier one among them, for each worker.
_WINDOW = 4
# So often a batch is tried whose worker died, and a worker is started that dies before it is ready.
_ATTEMPTS = 3
# How long we listen before we look after the workers ourselves, and wait before we say for what.
_LISTEN_S = 5.0
_SILENT_S = 30.0


@dataclass(eq=False)
class _Batch:
    """Inputs on their way to a result."""

    inputs: list[Any]
    besides: Any
    attempts: int = 0
    is_done: bool = False
    result: Any = None


@dataclass(eq=False)
class _Hand:
    """A worker as it is seen from here: what it was asked and has not answered."""

    actor: Any
    loading: Any  # the reference of the answer to `load`; None once it is there
    place: str = "a worker"
    process: int | None = None  # known since it has loaded
    batches: dict[Any, _Batch] = field(default_factory=dict)  # by the reference of the answer


class RayEngine:
    """Work in a Ray cluster: the one at an address, or one of our own while there is work."""

    is_here = False

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        cpus: int = 1,
        gpus: float | None = None,
        quiet: bool = True,
    ) -> None:
        """address: auto, HOST:PORT, or None for that of RAY_ADDRESS, else a cluster of our own.

        workers: how many; default, as many as there is room for. cpus: of each, and its threads. gpus: of
        each, 0.5 for half of one; default, one where the cluster has any and the work may use them.
        Raises UserError.
        """
        if workers is not None and workers < 1:
            raise UserError(f"--workers must be at least 1, not {workers}")
        if cpus < 1:
            raise UserError(f"--worker-cpus must be at least 1, not {cpus}")
        if gpus is not None and not (0 <= gpus < 1 or gpus == int(gpus)):
            raise UserError(f"--worker-gpus is a share of one GPU or a whole number, not {gpus}")
        self._address, self._workers, self._cpus, self._gpus = address, workers, cpus, gpus
        self._quiet = quiet

    @contextmanager
    def workers(self, task: Task) -> Iterator["RayWorkers"]:
        """The task loaded by at least one worker; the others follow."""
        if ":" in task.device:
            raise UserError(
                f"Ray gives each worker GPUs of its own: --device cuda, not {task.device}"
            )
        here = os.cpu_count() or 1
        with connected(self._address, max(here, (self._workers or 1) * self._cpus)):
            ray = import_ray()
            need = {"CPU": float(self._cpus), "GPU": self._gpus_for(ray, task)}
            n = self._workers or _room(ray, need)
            _refuse_too_much(ray, need)
            workers = RayWorkers(ray, task, n, need, self._quiet)
            try:
                workers.start()
                yield workers
            finally:
                workers.stop()

    def _gpus_for(self, ray: Any, task: Task) -> float:
        if self._gpus is not None:
            return self._gpus
        may_use = task.device in ("auto", "cuda")
        return 1.0 if may_use and ray.cluster_resources().get("GPU", 0) >= 1 else 0.0


class RayWorkers:
    """The workers of one task."""

    def __init__(self, ray: Any, task: Task, n: int, need: dict[str, float], quiet: bool) -> None:
        self._ray, self._n, self._need, self._quiet = ray, n, need, quiet
        self._here = os.uname().nodename if hasattr(os, "uname") else ""
        self._task = ray.put(task)
        self._hands: list[_Hand] = []
        self._to_do: deque[_Batch] = deque()
        self._facts: Facts | None = None
        self._died_loading = 0
        self._said_at = time.monotonic()
        self.n_lost = 0
        self.timings: dict[str, float] = {}

    @property
    def facts(self) -> Facts:
        assert self._facts is not None  # known since `start`
        return self._facts

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers that are ready, wherever they are."""
        return [hand.process for hand in self._hands if hand.process is not None]

    def start(self) -> None:
        """Starts all workers, and waits for the first. Raises UserError where it cannot load the task."""
        for _ in range(self._n):
            self._hire()
        while self._facts is None:
            self._listen()
        if not self._quiet:
            cpus, gpus = self._need["CPU"], self._need["GPU"]
            each = f"{cpus:g} CPU{'s' * (cpus != 1)}" + (f" and {gpus:g} GPU" if gpus else "")
            who = "1 worker of Ray," if self._n == 1 else f"{self._n} workers of Ray, each"
            say(f"{who} with {each}")

    def stop(self) -> None:
        """Ends them all, whatever they are at."""
        while self._hands:
            self._ray.kill(self._hands.pop().actor)

    def record(self, run: Run) -> None:
        """Their number, those lost, and Ray's version. Only at the end, so that a run that Ray began can be
        gone on with by any engine, of which none changes the rows."""
        run.counts["workers"] = self._n
        if self.n_lost:
            run.counts["workers_lost"] = self.n_lost
        (text,) = run.db.execute(
            "select versions_json from runs where id = ?", (run.id,)
        ).fetchone()
        versions = {**json.loads(text), "ray": importlib.metadata.version("ray")}
        with immediate(run.db):
            run.db.execute(
                "update runs set versions_json = ? where id = ?",
                (json.dumps(versions, sort_keys=True), run.id),
            )

    def map(
        self,
        inputs: Iterable[Any],
        batch_size: int,
        *,
        besides: Besides | None = None,
        ahead: int | None = None,
    ) -> Iterator[Any]:
        """As `Workers.map`; `timings` has as `model` how long the workers were waited for."""
        source = iter(inputs)
        window: deque[_Batch] = deque()
        while True:
            while len(window) < _WINDOW * self._n and (batch := list(islice(source, batch_size))):
                one = _Batch(batch, besides(batch) if besides else None)
                window.append(one)
                self._to_do.append(one)
                self._hand_out()
            if not window:
                return
            started = time.perf_counter()
            while not window[0].is_done:
                self._listen()
            waited = (time.perf_counter() - started) * 1000
            self.timings["model"] = self.timings.get("model", 0.0) + waited
            yield window.popleft().result

    def _hire(self) -> None:
        """Starts one more worker, which begins to load the task."""
        actor = (
            self._ray.remote(Worker)
            .options(
                num_cpus=self._need["CPU"],
                num_gpus=self._need["GPU"],
                max_concurrency=_AT_ONCE,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )
            .remote(int(self._need["CPU"]))
        )
        loading = actor.load.remote(self._task, __version__)
        self._hands.append(_Hand(actor, loading))

    def _hand_out(self) -> None:
        """Gives what is to do to those who have least. Whose worker has died goes to one with nothing else,
        so that it is known which batch kills."""
        while self._to_do:
            ready = [hand for hand in self._hands if hand.loading is None]
            hand = min(ready, key=lambda hand: len(hand.batches), default=None)
            batch = self._to_do[0]
            most = _AT_ONCE - 1 if batch.attempts == 0 else 0
            if hand is None or len(hand.batches) > most:
                return
            if any(other.attempts for other in hand.batches.values()):
                return
            self._to_do.popleft()
            batch.attempts += 1
            hand.batches[hand.actor.work.remote(batch.inputs, batch.besides)] = batch

    def _listen(self) -> None:
        """Waits for an answer, and hands out what is to do. Raises what a worker answers with."""
        asked = {hand.loading: hand for hand in self._hands if hand.loading is not None}
        asked |= {reference: hand for hand in self._hands for reference in hand.batches}
        answered, _ = self._ray.wait(list(asked), timeout=_LISTEN_S)
        for reference in answered:
            hand = asked[reference]
            if hand not in self._hands:
                continue  # lost a moment ago, with another of its answers
            try:
                answer: Answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise _explained(error) from error
            except self._ray.exceptions.RayError as error:
                self._lose(hand, error)
                continue
            if answer.error is not None:
                raise self._said_by(hand, answer.error)
            if reference == hand.loading:
                self._welcome(hand, answer.value)
            else:
                batch = hand.batches.pop(reference)
                batch.is_done, batch.result, batch.inputs = True, answer.value, []
        if not answered:
            self._say_what_for()
        self._hand_out()

    def _welcome(self, hand: _Hand, loaded: Loaded) -> None:
        """A worker is ready. Raises UserError when it computes otherwise than the others."""
        hand.loading, hand.process = None, loaded.process
        hand.place = f"the worker of process {loaded.process} on {loaded.host}"
        if self._facts is None:
            self._facts = loaded.facts
        ours, its = replace(self._facts, device=""), replace(loaded.facts, device="")
        if ours != its:
            raise UserError(
                f"the workers do not compute alike, so that results would depend on chance:"
                f" {hand.place} on {loaded.facts.device} {_differing(its, ours)}, and others"
                f" on {self._facts.device} {_differing(ours, its)}: give --device or --worker-gpus"
            )

    def _lose(self, hand: _Hand, error: Exception) -> None:
        """A worker has died: another takes its place, and does what it had. Raises UserError when that
        happens again and again."""
        self._hands.remove(hand)
        self._ray.kill(hand.actor)
        reason = _first_line(error)
        if hand.loading is not None:
            if "No module named 'nearsql" in str(error):
                raise UserError("the workers do not find nearsql: install it wherever Ray runs")
            self._died_loading += 1
            if self._died_loading >= _ATTEMPTS:
                raise UserError(f"worker after worker dies while it loads the model: {reason}")
        for batch in hand.batches.values():
            if batch.attempts >= _ATTEMPTS:
                raise UserError(
                    f"{batch.attempts} workers have died of the same {len(batch.inputs)} items,"
                    f" the first of which is {_name(batch.inputs[0])}: {reason}"
                )
        self.n_lost += 1
        if not self._quiet:
            n = len(hand.batches)
            say(f"{hand.place} died, and another does its {n} batch{'es' * (n != 1)}: {reason}")
        # They are older than anything that waits.
        self._to_do.extendleft(reversed(list(hand.batches.values())))
        self._hire()

    def _said_by(self, hand: _Hand, error: Exception) -> Exception:
        """The worker's error; of another machine's, with its name."""
        if isinstance(error, UserError) and hand.loading is None:
            host = hand.place.rpartition(" on ")[2]
            if host != self._here:
                return UserError(f"{error} (says {hand.place})")
        return error

    def _say_what_for(self) -> None:
        """Now and then, while there is no worker."""
        now = time.monotonic()
        if any(hand.loading is None for hand in self._hands):
            self._said_at = now
        elif now - self._said_at >= _SILENT_S and not self._quiet:
            self._said_at = now
            free = self._ray.available_resources()
            has = f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs are free"
            say(f"waiting for a worker to be ready: in the cluster {has}")


def _room(ray: Any, need: dict[str, float]) -> int:
    """How many workers the cluster has room for now; at least one, which may have to wait."""
    free = ray.available_resources()
    return max(1, min(int(free.get(name, 0) // each) for name, each in need.items() if each))


def _refuse_too_much(ray: Any, need: dict[str, float]) -> None:
    """Raises UserError when no machine of the cluster is large enough for a worker."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= each for name, each in need.items()) for node in nodes):
        return
    most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in need}
    raise UserError(
        f"no machine of the Ray cluster has the {need['CPU']:g} CPUs and {need['GPU']:g} GPUs of a"
        f" worker: the most that one has are {most['CPU']:g} CPUs and {most['GPU']:g} GPUs"
    )


def _differing(facts: Facts, others: Facts) -> str:
    """What of the facts is not as the others', in words."""
    found: dict[str, Any] = {}
    for name in type(facts).__dataclass_fields__:
        one, other = getattr(facts, name), getattr(others, name)
        if one == other:
            continue
        if name == "computation":
            found |= {key: value for key, value in one.items() if other.get(key) != value}
        else:
            found[name] = one
    return "with " + ", ".join(f"{name} {value}" for name, value in found.items())


def _explained(error: Exception) -> Exception:
    """An error that came before or after our own code in the worker: of what was sent, mostly."""
    if "No module named 'nearsql" in str(error):
        return UserError("the workers do not find nearsql: install it wherever Ray runs")
    return RuntimeError(f"a worker of Ray failed: {error}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _name(value: Any) -> str:
    """An input, as it is told to a person."""
    item_id = getattr(value, "id", None)
    return f"item {item_id}" if item_id is not None else repr(value)[:60]
