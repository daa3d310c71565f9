"""Measurements: each script prints ratios against a peer or a hardware floor, all from one run."""
