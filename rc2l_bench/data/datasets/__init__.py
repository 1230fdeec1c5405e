"""The data sets: one module for each that is built in, and the folders that users describe.

Imports fetching, decoding and the ground floor.
"""
