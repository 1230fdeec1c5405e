"""One run: from a cell to its artifacts, in a store that never computes a run twice.

Imports methods and what lies below them.
"""
