"""Exact nearest neighbours: a space as one matrix in memory, and the search in it."""
