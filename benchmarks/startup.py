"""What a user waits for before anything happens: each sample is a fresh process."""

import subprocess
import sys

_FIRST_FIT = """
    import numpy as np, fastmnist
    images = np.random.default_rng(0).integers(256, size=(1000, 784), dtype=np.uint8)
    fastmnist.Network((784, 512, 10), dropout=0.3).train_epoch(images, np.arange(1000) % 10)
"""


class Startup:
    version = "2"

    def timeraw_import(self):
        return "import fastmnist"

    def timeraw_help(self):
        return """
        import contextlib, io
        from fastmnist.__main__ import main
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main(["--help"])
        """


class WarmFit:
    """The first fit, import included, with machine code on disk."""

    version = "2"
    timeout = 180
    number = 1
    repeat = 5

    def setup(self):
        subprocess.run([sys.executable, "-c", _FIRST_FIT.replace("\n    ", "\n")], check=True)

    def timeraw_first_fit(self):
        return _FIRST_FIT


class ColdFit:
    """The first fit with no machine code on disk: compilation."""

    version = "2"
    timeout = 300
    number = 1
    repeat = 1
    rounds = 1
    warmup_time = 0.0

    def timeraw_first_fit(self):
        return f"""
    import os, tempfile
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="fastmnist-")
    {_FIRST_FIT}
    import shutil
    shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])
        """
