"""`python -m tests.benchmarks [measure[:key=value,…]] …`: a table, and JSON in `.run/bench.json`.

Each measure stands against its peer in the same run on the same machine: read the ratios.
"""

import importlib
import json
import platform as machine
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil
from qslice_native.instance import instance
from qslice_native.places import checkout_root
from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Line
from tests.benchmarks.parts import parts
from tests.support.platform import Platform
from tests.support.schema import schema_template

MEASURES = ("submit", "bulk", "latency", "life", "containers", "scale")


def main() -> None:
    asked = dict(_asked(text) for text in sys.argv[1:]) or {name: {} for name in MEASURES}
    unknown = sorted(set(asked) - set(MEASURES))
    if unknown:
        sys.exit(f"unknown measure {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    tests = instance("tests")
    platform = Platform.of(tests)
    template = schema_template(platform, tests.places.run / "schema.lock")
    lines: list[Line] = []
    for name, options in asked.items():
        print(f"== {name}: measuring, load {psutil.getloadavg()[0]:.1f} ...", flush=True)
        module = importlib.import_module(f"tests.benchmarks.{name}")
        with (
            tempfile.TemporaryDirectory(prefix="qslice-bench-") as folder,
            parts(platform, template, Path(folder)) as running,
        ):
            found = module.measure(running, **options)
        lines += found
        for line in found:
            print(
                f"   {line.measure}: {line.ours}, peer {line.peer}, ratio {line.ratio}", flush=True
            )
    Console(width=130).print(_table(lines))
    path = checkout_root() / ".run" / "bench.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "at": datetime.now(UTC).isoformat(),
                "cores": psutil.cpu_count(),
                "kernel": machine.release(),
                "lines": [line.as_json() for line in lines],
            },
            indent=2,
        )
    )
    print(f"written to {path}")


def _asked(text: str) -> tuple[str, dict[str, int | str]]:
    name, _, options = text.partition(":")
    pairs = (option.partition("=") for option in options.split(",") if option)
    return name, {key: int(value) if value.isdigit() else value for key, _, value in pairs}


def _table(lines: list[Line]) -> Table:
    table = Table(
        "measure", "qslice", "peer", "ratio", "aim", "met", title="qslice against its peers"
    )
    for line in lines:
        met = "-" if line.met is None else "yes" if line.met else "no"
        table.add_row(line.measure, line.ours, line.peer, line.ratio, line.aim, met)
    return table


if __name__ == "__main__":
    main()
