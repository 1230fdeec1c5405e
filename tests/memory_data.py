"""How scripts of tests measure their own memory."""

from __future__ import annotations

PEAK = 'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])'
"""Python for the most memory that a process has taken since it began, KiB, on Linux. Not `ru_maxrss`, which begins with
the memory of the process that started it."""
