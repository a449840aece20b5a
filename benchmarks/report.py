"""Write the README's speed table and its chart from measurements: ``python benchmarks/report.py measured.json``.

The measurements are those that ``fastmnist bench --json > measured.json`` prints. The table goes between the two marker
comments in the README, the chart to docs/speed.png. Where anything cannot be parsed, neither is touched.

The package is imported in functions only: asv imports this file, as all of this folder, beside any commit's package.
"""

import argparse
import json
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- speed: written by benchmarks/report.py -->"
END = "<!-- /speed -->"
COLOURS = ("#444444", "#999999", "#4477aa", "#66ccee", "#228833", "#99cc66", "#ee6677", "#aa3377", "#ccbb44")
OWN = "fastmnist, "  # how the names of our own other ways begin
PER = {"sample": "", "epoch": ", per epoch", "evaluation": ""}  # the titles of the others say it


class ReportError(Exception):
    """The measurements or the README are not of the form that is expected."""


def checked(report):
    """Return the report if every row in it can be told in full.

    Raises
    ------
    ReportError
        If it is from a quick run, or a row has no time of ours, none to compare with, or one that is not a positive
        number.
    """
    from fastmnist.bench.report import footer, sections

    if not isinstance(report, dict) or not report.get("rows"):
        raise ReportError("there are no rows: is this what `fastmnist bench --json` printed?")
    if report.get("quick"):
        raise ReportError("these are from --quick, which only shows that the bench works; measure without it")
    for name, row in report["rows"].items():
        try:
            ours, *others = row["cells"]
            PER[row["per"]], int(row["images"]), float(row["share_of_peak"])
            if ours["peer"] != "fastmnist" or not others:
                raise ReportError(f"row {name}: our own cell must come first, and another after it")
            for cell in row["cells"]:
                numbers = [] if cell["refused"] else [cell[key] for key in ("median", "low", "high", "ratio")]
                if not all(isinstance(n, float | int) and math.isfinite(n) and n > 0 for n in numbers):
                    raise ReportError(f"row {name}: {cell['peer']} has the times {numbers}")
            if ours["refused"] or all(cell["refused"] for cell in others):
                raise ReportError(f"row {name}: one side of the comparison has no time")
        except (KeyError, TypeError, ValueError) as error:
            raise ReportError(f"row {name} cannot be parsed: {error!r}") from None
    try:
        list(footer(report)), list(sections(report)), _to_98(report)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ReportError(f"what was measured on cannot be parsed: {error!r}") from None
    return report


def markdown(report):
    """Return the table, rows by peers, the chart, and what was measured on and how."""
    from fastmnist.bench.report import footer, sections

    rows = report["rows"]
    names = dict.fromkeys(cell["peer"] for row in rows.values() for cell in row["cells"])
    peers = [name for name in names if name != "fastmnist" and not name.startswith(OWN)]
    headings = ["row", "fastmnist", "fastmnist otherwise", *peers]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for name, row in rows.items():
        cells = {cell["peer"]: _cell(cell, row) for cell in row["cells"]}
        label = f"**{name}** {row['title']}, {row['dtype']}{PER[row['per']]}"
        otherwise = [f"{peer.removeprefix(OWN)}: {cell}" for peer, cell in cells.items() if peer.startswith(OWN)]
        entries = [label, cells["fastmnist"], "<br>".join(otherwise), *(cells.get(peer, "") for peer in peers)]
        lines.append(f"| {' | '.join(entries)} |")
    refused = [
        f"- Row {name}, {cell['peer']}: {cell['refused']}"
        for name, row in rows.items()
        for cell in row["cells"]
        if cell["refused"]
    ]
    return "\n".join(
        [
            *lines,
            "",
            "Medians, give or take half the distance of the quartiles, and how many times as long as fastmnist",
            "that is: in bold where it is less. An asterisk marks times extrapolated from fewer samples.",
            "",
            *([*refused, ""] if refused else []),
            *(f"- {line}" for line in sections(report)),
            "",
            "![How many times as long each takes](docs/speed.png)",
            "",
            "<details><summary>Machine, versions, peak, packing</summary>",
            "",
            *(f"- {line.strip()}" for line in footer(report)),
            "",
            "</details>",
        ]
    )


def _cell(cell, row):
    """Write a median with its spread, and for a peer the ratio to ours; in bold where we lose."""
    from fastmnist.bench.words import duration

    if cell["refused"]:
        return "refused"
    of = 1 if row["per"] == "sample" else row["images"]
    spread = (cell["high"] - cell["low"]) / 2 / cell["median"]
    text = f"{duration(cell['median'] * of)} ±{spread:.0%}" + ("\\*" if cell["samples"] < row["images"] else "")
    if cell["peer"] == "fastmnist":
        return text
    ratio = f"{_digits(cell['ratio'])}x"
    return f"{text}, " + (ratio if cell["ratio"] >= 1 else f"**{ratio}**")


def _digits(ratio):
    return f"{ratio:,.{0 if ratio >= 10 else 2}f}"


def _to_98(report):
    """Return the cells of the sides that reached 98 %; none where that was not measured, or we did not reach it."""
    measured = report["sections"].get("ACCURACY", {"refused": "not asked for"})
    cells = [] if measured["refused"] else [cell for cell in measured["cells"] if cell["ratio"] is not None]
    if not all(math.isfinite(cell["ratio"]) and cell["ratio"] > 0 for cell in cells):
        raise ValueError(f"the ratios to 98 % are {[cell['ratio'] for cell in cells]}")
    return cells


def with_table(readme, table):
    """Return the README's text with the table between its markers, in place of what was there."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ReportError(f"the README must have the lines {BEGIN!r} and {END!r}, once each and in this order")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def chart(report):
    """Draw how many times as long each other library takes, row by row, on a logarithmic axis."""
    from matplotlib.figure import Figure

    groups = {
        f"{name}, {row['dtype']}\n{row['title']}": [c for c in row["cells"] if not c["refused"]]
        for name, row in report["rows"].items()
    }
    groups["98 % of MNIST's test images"] = _to_98(report)
    bars = [
        (label, cell)
        for label, cells in groups.items()
        for cell in sorted(cells, key=lambda c: c["ratio"])
        if not cell["peer"].startswith("fastmnist")
    ]
    peers = sorted({cell["peer"] for _, cell in bars})
    colours = {peer: COLOURS[k % len(COLOURS)] for k, peer in enumerate(peers)}
    places, at, previous = [], 0.0, None
    for label, _ in bars:
        at += 1.0 if label == previous or previous is None else 1.8
        places.append(at)
        previous = label
    figure = Figure(figsize=(9, 1.2 + 0.14 * at), dpi=150, layout="constrained")
    axes = figure.subplots()
    for place, (_, cell) in zip(places, bars, strict=True):
        axes.barh(place, cell["ratio"] - 1, left=1, color=colours[cell["peer"]], height=0.85)
        text = f"{cell['peer']}  {_digits(cell['ratio'])}"
        axes.text(max(cell["ratio"], 1) * 1.05, place, text, va="center", fontsize=6)
    by_label = {label: [p for p, (its, _) in zip(places, bars, strict=True) if its == label] for label in groups}
    shown = [(sum(ps) / len(ps), label) for label, ps in by_label.items() if ps]
    axes.set_yticks([place for place, _ in shown], [label for _, label in shown], fontsize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, at + 1)
    ratios = [cell["ratio"] for _, cell in bars]
    axes.set_xlim(min([0.5, *ratios]) * 0.9, max([1, *ratios]) * 8)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("times as long as fastmnist (right of the line: fastmnist is faster)")
    cpu = report["machine"]
    axes.set_title(
        f"{cpu['processor']}, {report['threads']} threads on every side, "
        f"medians of {report['repetitions']}, {report['data']}",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv=None):
    """Write table and chart; return 1 and say why where that cannot be done."""
    parser = argparse.ArgumentParser(description="Write the README's speed table and docs/speed.png.")
    parser.add_argument("measured", type=Path, help="what `fastmnist bench --json` printed")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--chart", type=Path, default=ROOT / "docs" / "speed.png")
    options = parser.parse_args(argv)
    try:
        report = checked(json.loads(options.measured.read_text(encoding="utf-8")))
        text = with_table(options.readme.read_text(encoding="utf-8"), markdown(report))
    except (OSError, ValueError, ReportError) as error:
        print(f"report.py: {options.measured}: {error}", file=sys.stderr)
        return 1
    options.chart.parent.mkdir(parents=True, exist_ok=True)
    chart(report).savefig(options.chart)
    options.readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
