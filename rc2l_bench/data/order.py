"""The order of an endless stream of samples: permutations that are computed where they are needed, never stored.

A permutation of the numbers 0..n-1 is a Feistel network over Z_a × Z_b with a·b just above n ("generalized Feistel",
method 3 of Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002; NIST SP 800-38G adds likewise).
The few numbers from n to a·b-1 are walked through until a smaller one comes (cycle walking, method 2 there). So
time and memory do not depend on n, and any process can ask for any place of any pass.

A permutation of shards with another one inside each would read the disk in longer pieces, but it puts neighbours of a
shard (frames of one video, images of one class) into one batch. The whole pool is shuffled instead, and the reader
fetches the pieces of a batch side by side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rc2l_bench.draws import derive

Numbers = NDArray[np.int64]
_Words = NDArray[np.uint64]

ROUNDS = 24
"""Rounds of the network. Large domains need few (Luby and Rackoff, SIAM J. Comput. 1988). With five or six samples 12
rounds favour some orders measurably, 16 do not; 24 is what Mitchell et al., Bandwidth-Optimal Random Shuffling for
GPUs, ACM TOPC 2022, take for domains of every size."""


class Permutation:
    """A bijection of 0..length-1 onto itself."""

    def __init__(self, length: int, seed: int) -> None:
        """Choose one of the permutations.

        Args:
            length: n, 1 to 2^62.
            seed: 0 to 2^64-1; another seed gives another permutation.
        """
        assert 1 <= length <= 1 << 62, length
        self.length = length
        # As square as can be: fewer than √n numbers lie above n, so that walking is rare.
        rows = math.isqrt(length - 1) + 1
        self._rows, self._columns = np.uint64(rows), np.uint64(-(-length // rows))
        # numpy keeps the raw draws of a bit generator the same for good.
        self._keys = np.random.PCG64(seed).random_raw(ROUNDS)

    def __call__(self, places: Numbers) -> Numbers:
        """Map (N,) places 0..length-1 to (N,) numbers 0..length-1."""
        numbers = self._encrypt(places.astype(np.uint64))
        # The way out of the domain always leads back in: it is a cycle that began inside.
        while len(outside := np.flatnonzero(numbers >= self.length)):
            numbers[outside] = self._encrypt(numbers[outside])
        return numbers.astype(np.int64)

    def _encrypt(self, numbers: _Words) -> _Words:
        """Permute the numbers 0..a·b-1."""
        row, column = np.divmod(numbers, self._columns)
        for even, odd in zip(self._keys[::2], self._keys[1::2], strict=True):
            column = (column + _mix(row + even) % self._columns) % self._columns
            row = (row + _mix(column + odd) % self._rows) % self._rows
        return row * self._columns + column


class Order:
    """An endless stream of the numbers 0..length-1: one permutation after the other, laid end to end."""

    def __init__(self, length: int, seed: int, stream: str) -> None:
        """Say which stream.

        Args:
            length: numbers in one pass.
            seed: of the cell.
            stream: its name; streams do not influence one another.
        """
        self.length, self._seed, self._stream = length, seed, stream
        self._pass, self._permutation = -1, Permutation(length, 0)

    def take(self, first: int, count: int) -> Numbers:
        """Give the (count,) numbers at places first..first+count-1 of the stream, a pure function of the place."""
        places = np.arange(first, first + count)
        passes = places // self.length
        pieces = [self._of_pass(number)(places[passes == number] % self.length) for number in np.unique(passes)]
        return np.concatenate(pieces) if pieces else places

    def _of_pass(self, number: int) -> Permutation:
        if number != self._pass:  # kept, because the next batch most likely lies in the same pass
            self._pass = int(number)
            self._permutation = Permutation(self.length, derive(self._seed, f"{self._stream}/order", self._pass))
        return self._permutation


def _mix(words: _Words) -> _Words:
    """Scatter 64-bit words: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014; constants of Stafford)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
