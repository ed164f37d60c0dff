"""What a job counts while it runs, as Beam metrics, and what is shown of them at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from apache_beam.metrics import Metrics, MetricsFilter

from bisift.filter.terminal import Terminal

NAMESPACE = "bisift"


def count(name: str, by: int = 1) -> None:
    """Add to a counter such as `rows_read` or `rejected:null`."""
    Metrics.counter(NAMESPACE, name).inc(by)


def count_all(prefix: str, counts: Mapping[str, int]) -> None:
    """Add to a counter for each name, such as `dropped:too_long`."""
    for name, number in counts.items():
        count(f"{prefix}:{name}", number)


def observe(name: str, value: float) -> None:
    """Add a value to a distribution; whole numbers, so milliseconds rather than seconds."""
    Metrics.distribution(NAMESPACE, name).update(round(value))


def collected(result: Any) -> dict[str, Any]:
    """Return a job's metrics as JSON can hold them: counters, and distributions with count, sum, min, mean and max.

    Counts of bundles that ran twice are in: the manifest has the true number of rows, these tell what was done.
    """
    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    except NotImplementedError:  # a runner without metrics
        return {"counters": {}, "distributions": {}}
    counters: Counter[str] = Counter()
    for entry in found["counters"]:
        counters[entry.key.metric.name] += int(entry.result or 0)
    distributions: dict[str, dict[str, float]] = {}
    for entry in found["distributions"]:
        value = entry.result
        if value is None or not value.count:
            continue
        before = distributions.get(entry.key.metric.name)
        total, number = value.sum + (before or {}).get("sum", 0), value.count + (before or {}).get("count", 0)
        distributions[entry.key.metric.name] = {
            "count": number,
            "sum": total,
            "min": min(value.min, (before or {}).get("min", value.min)),
            "mean": round(total / number, 3),
            "max": max(value.max, (before or {}).get("max", value.max)),
        }
    return {"counters": dict(sorted(counters.items())), "distributions": dict(sorted(distributions.items()))}


def show(metrics: Mapping[str, Any], terminal: Terminal) -> None:
    """Write the metrics as a table."""
    rows = [(name, f"{value:,}", "") for name, value in metrics["counters"].items()]
    rows += [
        (
            name,
            f"{value['sum']:,}",
            f"{value['count']:,} times, {value['min']:,} to {value['max']:,}, mean {value['mean']:,}",
        )
        for name, value in metrics["distributions"].items()
    ]
    if not rows:
        return
    width, digits = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    for name, value, note in rows:
        terminal.line(f"  {name:<{width}}  {value:>{digits}}  {note}".rstrip())
