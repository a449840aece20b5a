"""Speed on this machine, side by side: what our kernels take for a piece of work, and what everything else takes.

`rows` says what the work is, `peers` how each library does it, `measure` checks that they agree and times them,
`machine` finds out what the processor could do at best.
"""
