"""``fastmnist run``: a program, with its training loops replaced."""

from fastmnist.accel.run import Options, run_code, run_module, run_script
from fastmnist.commands import UserError


def run(
    *,
    verbose: int,
    verify: bool,
    strict: bool,
    explain: bool,
    profile: bool,
    module: str | None,
    code: str | None,
    program: list[str],
) -> int:
    """Run a script, a module or a string as ``python`` would."""
    options = Options(verbose, verify, strict, explain, profile)
    if module is not None:
        return run_module(module, program, options)
    if code is not None:
        return run_code(code, program, options)
    if not program:
        raise UserError("run: a script is wanted, or -m module, or -c code (see fastmnist run --help)")
    return run_script(program[0], program[1:], options)
