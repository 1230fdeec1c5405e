"""Measure memory, time and FLOPs of a training step, estimate them symbolically, and show how they scale.

Imports run and what lies below it.
"""
