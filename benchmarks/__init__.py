"""Speed, commit by commit: ``asv run``, ``asv continuous HEAD~1 HEAD``."""

import os
from pathlib import Path

# Every commit compiles its own kernels, in a folder of its own.
if "ASV_ENV_DIR" in os.environ and "ASV_COMMIT" in os.environ:
    cache = Path(os.environ["ASV_ENV_DIR"], "numba-cache", os.environ["ASV_COMMIT"])
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache))
