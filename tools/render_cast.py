"""Draw an asciinema cast as an animated SVG: every picture is what a terminal shows of the cast at that moment.

Usage: python tools/render_cast.py CAST SVG. Pauses longer than two seconds are shortened to that; nothing else is changed.
"""

import json
import sys
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path

import pyte

LONGEST_PAUSE_S, LAST_S = 2.0, 10.0
WIDTH, HEIGHT, MARGIN, BAR = 8.4, 18, 14, 34
COLOURS = {"default": "#d8dee9", "green": "#8fcf7a", "red": "#ff7b72", "brown": "#e0c068", "blue": "#79b8ff"}
COLOURS |= {"magenta": "#c8a0f0", "cyan": "#7fd7d0", "white": "#ffffff", "black": "#6b7280"}

Row = tuple[tuple[str, str], ...]  # runs of text, each with its style's attributes
Picture = tuple[Row, ...]


def pictures(cast: Path) -> tuple[dict[str, object], list[tuple[float, Picture]]]:
    """The cast's header, and each picture with the second at which it appears."""
    header, *events = [json.loads(line) for line in cast.read_text().splitlines()]
    screen = pyte.Screen(header["width"], header["height"])
    stream = pyte.Stream(screen)
    found: list[tuple[float, Picture]] = [(0.0, _picture(screen))]
    now = before = 0.0
    for at, kind, text in events:
        now, before = now + min(at - before, LONGEST_PAUSE_S), at
        if kind == "o":
            stream.feed(text)
        drawn = _picture(screen)
        if drawn != found[-1][1]:
            found.append((now, drawn))
    return header, found


def _picture(screen: pyte.Screen) -> Picture:
    return tuple(tuple(_runs(screen, line)) for line in range(screen.lines))


def _runs(screen: pyte.Screen, line: int) -> Iterator[tuple[str, str]]:
    cells = [screen.buffer[line][column] for column in range(screen.columns)]
    while cells and cells[-1].data == " ":
        cells.pop()
    for style, group in groupby(cells, key=_style):
        yield "".join(cell.data for cell in group), style


def _style(cell: pyte.screens.Char) -> str:
    colour = COLOURS.get(cell.fg.removeprefix("bright"), COLOURS["default"])
    words = [] if colour == COLOURS["default"] else [f'fill="{colour}"']
    return " ".join(
        words + (['font-weight="bold"'] if cell.bold else []) + (['font-style="italic"'] if cell.italics else [])
    )


def render(header: dict[str, object], drawn: list[tuple[float, Picture]]) -> str:
    """The pictures lie side by side on a strip, which jumps on from one to the next; without animation the last is seen."""
    columns, lines = int(str(header["width"])), max(_height(picture) for _, picture in drawn) + 1
    width, height = columns * WIDTH + 2 * MARGIN, lines * HEIGHT + BAR + MARGIN
    length = drawn[-1][0] + LAST_S
    rows: dict[Row, int] = {}
    strip = []
    for number, (_, picture) in enumerate(drawn):
        uses = [
            f'<use href="#r{rows.setdefault(row, len(rows))}" y="{line * HEIGHT}"/>'
            for line, row in enumerate(picture)
            if row
        ]
        strip.append(f'<svg x="{number * width:.1f}" width="{width:.1f}" overflow="visible">{"".join(uses)}</svg>')
    frames = "".join(
        f"{100 * at / length:.3f}%{{transform:translateX({-number * width:.1f}px)}}"
        for number, (at, _) in enumerate(drawn)
    )
    last = -(len(drawn) - 1) * width
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img">',
            f"<title>{escape(str(header['title']))}</title>",
            "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}"
            f"#strip{{transform:translateX({last:.1f}px);animation:play {length:.2f}s step-end infinite}}"
            f"@keyframes play{{{frames}100%{{transform:translateX({last:.1f}px)}}}}</style>",
            f'<rect width="100%" height="100%" rx="8" fill="#14181f"/><g fill="#6b7280">{_buttons()}</g>',
            f'<text x="50%" y="22" fill="#9aa4b2" text-anchor="middle">{escape(str(header["title"]))}</text>',
            "<defs>",
            *(_row(number, row) for row, number in rows.items()),
            "</defs>",
            f'<svg x="{MARGIN}" y="{BAR}" width="{columns * WIDTH:.1f}" height="{lines * HEIGHT}"><g id="strip" fill="{COLOURS["default"]}">',
            *strip,
            "</g></svg>",
            "</svg>",
        ]
    )


def _height(picture: Picture) -> int:
    return max((line for line, row in enumerate(picture, 1) if row), default=1)


def _buttons() -> str:
    return "".join(f'<circle cx="{18 + 18 * index}" cy="17" r="5"/>' for index in range(3))


def _row(number: int, row: Row) -> str:
    spans, column = [], 0
    for text, style in row:
        # Its own length for each run, so that columns stay columns in every font.
        spans.append(
            f'<tspan x="{column * WIDTH:.1f}" textLength="{len(text) * WIDTH:.1f}" {style}>{escape(text)}</tspan>'
        )
        column += len(text)
    return f'<text id="r{number}" y="14">{"".join(spans)}</text>'


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(render(*pictures(Path(sys.argv[1]))) + "\n")
