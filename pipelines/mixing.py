"""The order mixed in a job: where each row stands in the order combined within its group, and so in the mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bisift.filter.mixing import GROUP, mixed_positions
from bisift.filter.ordering import F64, Keys, group_names, key_columns
from bisift.filter.text import I64
from bisift.pipelines.units import OverUnits, Unit


@dataclass(frozen=True, slots=True)
class Mixing:
    """Positions of the order mixed: by combined, a counter for each group of kept rows and of dropped ones."""

    order: str = "combined"

    def table(self, step: OverUnits, unit: Unit, facts: Any) -> pa.Table:
        """Return what the order combined and the groups need of a unit's rows."""
        table = step.rows(unit, (*key_columns(self.order), "generator"))
        code = pc.index_in(group_names(table), value_set=pa.array(list(facts.codes), pa.string()))
        return table.drop_columns("generator").append_column(GROUP, code)

    def counters(self, facts: Any) -> int:
        """Return the number of groups of kept and of dropped rows."""
        return int(facts.share_2G.size)

    def codes(self, table: pa.Table, keys: Keys, facts: Any) -> I64:
        """Return each row's place in `share_2G`, read row by row."""
        codes_N: I64 = keys.dropped_N * facts.share_2G.shape[1] + table.column(GROUP).to_numpy().astype(np.int64)
        return codes_N

    def positions(self, table: pa.Table, keys: Keys, placed_C: I64, facts: Any) -> F64:
        """Return the positions that `mixed_positions` gives."""
        return mixed_positions(table, keys, self.codes(table, keys, facts), placed_C, facts.share_2G)
