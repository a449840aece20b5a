"""Compiled loops: contiguous arrays and numbers in, nothing checked, nothing allocated but per-thread counters.

README.md in this folder gives each kernel as an equation, with its memory layout.
"""
