"""The contract of a method, and RC²L.

Imports losses, networks, augmentation and the ground floor; never loading, shards or data sets.
"""
