"""The recording of a terminal holds what the command printed, when it did, and the picture shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from mooseng_py.demo.stack import CHECKOUT

SCRIPT = "printf 'one\\033[1m two\\033[0m\\n'; sleep 0.3; printf '\\033[32m<three>\\033[0m é\\n'; exit 7"


def tool(name: str, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, CHECKOUT / "tools" / name, *words], capture_output=True, check=False)


def test_a_cast_holds_every_byte_with_its_time_and_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    cast = tmp_path / "x.cast"
    done = tool("record_terminal.py", cast, "a title", "sh", "-c", SCRIPT)
    assert done.returncode == 7
    header, *events = [json.loads(line) for line in cast.read_text().splitlines()]
    assert (header["version"], header["title"]) == (2, "a title")
    printed = "".join(text for _, _, text in events)
    assert printed == "one\x1b[1m two\x1b[0m\r\n\x1b[32m<three>\x1b[0m é\r\n"
    times = [at for at, _, _ in events]
    assert times == sorted(times)
    assert times[-1] - times[0] >= 0.25


def test_the_picture_shows_the_text_with_its_colours_and_the_last_of_it_without_animation(tmp_path: Path) -> None:
    cast, svg = tmp_path / "x.cast", tmp_path / "x.svg"
    tool("record_terminal.py", cast, "a title", "sh", "-c", SCRIPT)
    assert tool("render_cast.py", cast, svg).returncode == 0
    drawn = svg.read_text()
    assert ">&lt;three&gt;</tspan>" in drawn
    assert re.search(r'font-weight="bold"> two</tspan>', drawn)
    frames = re.findall(r"translateX\((-?[0-9.]+)px\)", drawn)
    assert frames[0] == frames[-1]  # what stands still is the last frame


def test_a_long_pause_is_shortened_in_the_picture_and_nowhere_else(tmp_path: Path) -> None:
    cast, svg = tmp_path / "x.cast", tmp_path / "x.svg"
    header = {"version": 2, "width": 20, "height": 3, "title": "t"}
    events = [[1.0, "o", "a\r\n"], [101.0, "o", "b\r\n"]]
    cast.write_text("\n".join(json.dumps(line) for line in [header, *events]))
    assert tool("render_cast.py", cast, svg).returncode == 0
    assert "animation:play 13.00s" in svg.read_text()  # 1 s, 2 s instead of 100 s, and 10 s to look at the end
