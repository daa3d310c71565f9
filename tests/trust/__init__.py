"""What happens when a run is killed, the disk is full, or many write at once."""

import os

# Read when the libraries are loaded. Threads of theirs would not live on in a forked child.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
