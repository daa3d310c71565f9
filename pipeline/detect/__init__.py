"""Detect: what a detector sees in each image, how wrong it is, and the features it sees it with."""
