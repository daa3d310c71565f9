"""Many models in one file, of very unequal size, each clustered from samples of several sizes."""
