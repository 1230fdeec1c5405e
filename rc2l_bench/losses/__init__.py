"""Losses and regions as pure functions of tensors.

Imports networks, augmentation and the ground floor.
"""
