"""From a source to a batch: fetching, splits, shards, loading, augmentation.

Imports the ground floor only.
"""
