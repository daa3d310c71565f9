"""Where a detector fails: its worst images, what it misses and invents, and which failures are alike."""

from nearsql.pipeline.failures.run import FailuresResult, failures, recompute

__all__ = ["FailuresResult", "failures", "recompute"]
