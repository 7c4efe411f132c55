"""The demonstration farm: `python -m roost.demo`, which is what `make demo` runs.

`picture` is what the jobs run: it renders tiles of a fractal and assembles them, with the standard
library alone. `__main__` is the person at the desk: it starts a farm, submits the tree over plain
XML-RPC, watches it and checks what came out.
"""
