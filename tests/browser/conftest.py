"""Where the helpers of the browser tests lie."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
