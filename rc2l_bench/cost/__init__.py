"""Memory, time and FLOPs of a training step: measured, estimated symbolically, and how they scale.

Imports run and what lies below it.
"""
