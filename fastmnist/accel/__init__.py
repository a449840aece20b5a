"""A NumPy program in, the same program with its training loops replaced: see the README beside this file."""
