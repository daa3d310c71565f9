"""What fills tables: ingest, embed, cluster, project, the runs that tie them together, and the CLI."""
