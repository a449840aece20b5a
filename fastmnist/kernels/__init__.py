"""Compiled loops: contiguous arrays and numbers in, nothing checked, nothing allocated.

README.md in this folder gives each kernel as an equation, with its memory layout.
"""
