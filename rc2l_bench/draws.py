"""Derive the seed of every random draw of the suite from (seed, stream, step), and from nothing else."""

from __future__ import annotations

import hashlib


def derive(seed: int, stream: str, step: int = 0) -> int:
    """Mix seed, stream and step into one seed for a generator.

    Args:
        seed: the seed of the cell, any integer.
        stream: what is drawn, for instance `labelled/order`; streams do not influence one another.
        step: training step, pass or index, any integer.

    Returns:
        An integer in 0..2^63 - 1, the same on every machine and for every version of every library.
    """
    # Not Python's `hash`, which is salted in every process, and not `seed + step`, which gives (0, 1) the
    # draws of (1, 0). 63 bits are what a signed integer holds, and a seed that torch and numpy both take.
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
