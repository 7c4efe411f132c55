"""Roost: a compute and render farm manager that speaks HQueue and Chirp.

Importing this package imports nothing else, so that tools inside running jobs start fast.
"""

__version__ = "0.1.0"
