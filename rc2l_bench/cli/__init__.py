"""The command `rc2l-bench`.

Imports any other room, and torch never at import time.
"""
