"""Single kernels on one thread, from the registry that the tests check: a class for each case.

Setup compiles, and asserts that what comes out is right: a wrong kernel has no time.
"""

import time

from .registry import CASES, check


class _Kernel:
    version = "1"
    timeout = 180
    param_names = ("dtype", "density")
    # One thread's processor time: what other programs take on a busy machine does not count.
    timer = time.process_time
    # Setup has run the kernel: no first call is among the samples.
    warmup_time = 0.05
    rounds = 6

    def setup(self, dtype, density):
        self.prepared = self.case.prepare(dtype, density)
        check(dtype, self.prepared.result(), self.prepared.expected())
        self.prepared.run()

    def time_kernel(self, dtype, density):
        self.prepared.run()


for _name, _case in CASES.items():
    _title = "".join(word.capitalize() for word in _name.split("_"))
    globals()[_title] = type(
        _title,
        (_Kernel,),
        {"case": _case, "params": (_case.dtypes, _case.densities), "__doc__": ", ".join(_case.kernels)},
    )
