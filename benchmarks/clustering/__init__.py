"""HDBSCAN: against the hdbscan library, at scale, and from a graph against all pairs."""
