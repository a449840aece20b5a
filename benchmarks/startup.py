"""What a user waits for before anything happens."""

version = "1"


def timeraw_import():
    return "import fastmnist"


def timeraw_help():
    return """
    import contextlib, io
    from fastmnist.__main__ import main
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(["--help"])
    """
