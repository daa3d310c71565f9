"""The documents, and what generates those that can be generated."""
