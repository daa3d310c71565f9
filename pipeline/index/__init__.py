"""Persistent indexes: built from a space, kept in the file, measured, listed, checked and dropped."""

from nearsql.pipeline.index.build import IndexResult, index

__all__ = ["IndexResult", "index"]
