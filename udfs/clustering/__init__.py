"""HDBSCAN equal to the hdbscan library: from points to a spanning tree to clusters, and new points to them."""
