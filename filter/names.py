"""Numbers for the strings of a column, over all tables of an input."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

I32 = npt.NDArray[np.int32]


class Names:
    """Numbers strings in the order in which they first come; those of `names` are numbered beforehand."""

    def __init__(self, *names: str) -> None:
        self._codes = {name: code for code, name in enumerate(names)}

    @property
    def all(self) -> list[str]:
        """The strings by their number."""
        return list(self._codes)

    def codes(self, column: pa.ChunkedArray, null: str) -> I32:
        """Return the number of each of N strings; null counts as the string `null`."""
        encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
        names = [*encoded.dictionary.to_pylist(), *([null] if encoded.null_count else [])]
        numbers = np.array([self._codes.setdefault(name, len(self._codes)) for name in names], np.int32)
        codes: I32 = numbers[encoded.indices.fill_null(len(names) - 1).to_numpy()]
        return codes
