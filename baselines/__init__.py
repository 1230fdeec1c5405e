"""The rivals: one file and one yaml each, importable at the root of a checkout, not installed."""
