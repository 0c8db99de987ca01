"""Times functions, and prints and saves the figures."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable

import jax

RESULTS = pathlib.Path(__file__).with_name("results.jsonl")
_NUM_RUNS = 5
_LEAST_SEC, _MOST_SEC = 2.0, 120.0
Figure = tuple[str, str, list[float]]
"""Name, unit and values of a measurement."""


def report(figures: Iterable[Figure], *, quiet: bool = False) -> None:
    """Prints the median and range of each figure, and appends them to `results.jsonl`.

    Args:
      figures: the figures of one run.
      quiet: whether to append without printing.
    """
    machine = _machine()
    with RESULTS.open("a") as file:
        for name, unit, values in figures:
            median, low, high = statistics.median(values), min(values), max(values)
            if not quiet:
                print(f"{name:52} {median:10.2f} {unit}   ({low:.2f} to {high:.2f})", flush=True)
            record = {"name": name, "unit": unit, "median": median, "low": low, "high": high}
            file.write(json.dumps({**record, **machine}) + "\n")


def time_ms(run: Callable[[], object], *, per: int = 1) -> list[float]:
    """Returns the milliseconds of each run, divided by `per`, without the first, which compiles.

    There are five runs or more, until two seconds have passed, because machines have slow moments;
    after two minutes, two runs are enough.
    """
    jax.block_until_ready(run())
    values: list[float] = []
    begin = time.perf_counter()
    fewest = lambda spent: 2 if spent > _MOST_SEC else _NUM_RUNS
    while (spent := time.perf_counter() - begin) < _LEAST_SEC or len(values) < fewest(spent):
        start = time.perf_counter()
        jax.block_until_ready(run())
        values.append(1000 * (time.perf_counter() - start) / per)
    return values


def format_table(
    table: dict[str, dict[str, float]],
    *,
    first: str,
    show: Callable[[str, float], str] = lambda column, value: f"{value:.3g}",
) -> str:
    """Formats a Markdown table.

    Args:
      table: rows by name, all with the same columns.
      first: heading of the first column.
      show: formats a value, given its column.
    """
    columns = list(next(iter(table.values())))
    lines = [[first, *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(show(*cell) for cell in row.items())] for name, row in table.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine() -> dict[str, str]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "device": jax.devices()[0].device_kind,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "commit": commit.stdout.strip(),
    }
