"""Breaks one rule at a time and says whether the tests notice. Never touches the tree it is started in.

`NAME.patch` holds, before its first `diff`: `what:` the rule that is broken, in one sentence, and `dies by:` a shell
command for the root of the tree that must fail on the broken one. A cargo command needs no `--manifest-path`. Where
the command is a Python test of a patch in `native`, the library is built of the broken tree.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- mutants: tests/mutants/run.py --table -->", "<!-- end of mutants -->"
# A patch survives small changes around its place.
APPLY = ["git", "apply", "--recount", "-C1"]
LIBRARY = Path("mooseng_py/native/_lib")
BUILD_SECONDS, TEST_SECONDS = 1800, 300
# Dearer to build than to run: while their own tests run, these are not optimised.
PLAIN = re.compile(r"-p (mooseng-(?:chunkserver|client|master|meta|raft))\b")


@dataclass(frozen=True)
class Mutant:
    """One rule and the command that shows that a test holds it."""

    name: str
    what: str
    dies_by: str
    path: Path

    @property
    def in_native(self) -> bool:
        return bool(re.search(r"^\+\+\+ b/native/", self.path.read_text(), re.MULTILINE))


def read(path: Path) -> Mutant:
    """Raises: ValueError when the head does not say what is broken or what notices."""
    head = path.read_text().split("\ndiff ", 1)[0]
    said = dict(re.findall(r"^(what|dies by): (\S.*)$", head, re.MULTILINE))
    if said.keys() != {"what", "dies by"}:
        raise ValueError(f"{path.name}: before the first `diff` stand `what: …` and `dies by: …`, one line each")
    return Mutant(path.stem, said["what"], said["dies by"], path)


def mutants(names: list[str]) -> list[Mutant]:
    """Those named, in that order; or all, by command, so that what one test needs is built once."""
    if names:
        return [read(HERE / f"{name.removesuffix('.patch')}.patch") for name in names]
    return sorted(map(read, HERE.glob("*.patch")), key=lambda it: (not cargo_parts(it.dies_by), it.dies_by, it.name))


def complete(command: str) -> str:
    """The command, with what a cargo command leaves out."""
    if "--manifest-path" in command:
        return command
    options = ["--manifest-path native/Cargo.toml"]
    options += [
        f"--config profile.release.package.{crate}.opt-level=0" for crate in dict.fromkeys(PLAIN.findall(command))
    ]
    return re.sub(r"\bcargo (test|run)\b", rf"cargo \1 {' '.join(options)}", command)


def cargo_parts(command: str) -> list[list[str]]:
    """The words of each cargo command in it."""
    parts = [shlex.split(part) for part in re.split(r"&&|\|\||;", command)]
    parts = [part[next((at for at, word in enumerate(part) if "=" not in word), 0) :] for part in parts]
    return [part for part in parts if part[:2] in (["cargo", "test"], ["cargo", "run"])]


def builds(command: str, in_native: bool) -> list[str]:
    """What must succeed before the command's failure means anything."""
    needed = []
    for words in cargo_parts(complete(command)):
        own = words[: words.index("--")] if "--" in words else words
        needed.append(shlex.join(["cargo", "build", *own[2:]] if own[1] == "run" else [*own, "--no-run"]))
    if in_native and "pytest" in command:
        needed.append("cargo build --manifest-path native/Cargo.toml --release --locked -p mooseng-ffi")
    return needed


def shell(command: str, tree: Path, target: Path, seconds: float) -> tuple[int | None, str]:
    """-> (exit code, output); no code when it took too long and was ended, with all that it had started."""
    environment = os.environ | {"CARGO_TARGET_DIR": str(target), "PYTHONPATH": str(tree)}
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=tree,
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, output


def build(command: str, in_native: bool, tree: Path, target: Path) -> str | None:
    """What the compiler said, where it refused."""
    for needed in builds(command, in_native):
        code, output = shell(needed, tree, target, BUILD_SECONDS)
        if code != 0:
            return output
    if in_native and "pytest" in command:
        library = tree / LIBRARY / "lib_lib.so"
        library.unlink(missing_ok=True)
        shutil.copy2(target / "release" / "libmooseng.so", library)
    return None


def runs_a_test(output: str) -> bool:
    return bool(re.search(r"\b[1-9]\d* passed|seeds", output))


def failed_tests(output: str) -> list[str]:
    """Of cargo's and pytest's lines."""
    found = re.findall(r"^(?:test (\S+) \.\.\. FAILED|FAILED (\S+))", output, re.MULTILINE)
    return [cargo or pytest for cargo, pytest in found]


def try_whole(command: str, tree: Path, target: Path) -> tuple[str, str]:
    """-> (verdict, output) of a command on the unbroken tree."""
    refused = build(command, False, tree, target)
    if refused is not None:
        return "does not compile", refused
    code, output = shell(complete(command), tree, target, TEST_SECONDS)
    if code != 0:
        return "fails unbroken", output
    return ("passes" if runs_a_test(output) else "runs no test"), output


def try_mutant(mutant: Mutant, tree: Path, target: Path) -> tuple[str, str]:
    """-> (verdict, output). The tree is whole again afterwards."""
    applied = subprocess.run([*APPLY, mutant.path], cwd=tree, capture_output=True, text=True)
    if applied.returncode != 0:
        return "does not apply", applied.stderr
    try:
        refused = build(mutant.dies_by, mutant.in_native, tree, target)
        if refused is not None:
            return "does not compile", refused
        code, output = shell(complete(mutant.dies_by), tree, target, TEST_SECONDS)
    finally:
        subprocess.run(["git", "checkout", "--quiet", "--", "."], cwd=tree, check=True)
        subprocess.run(["git", "clean", "--quiet", "-fd"], cwd=tree, check=True)
    if code is None:
        return "died (hung)", output
    return ("SURVIVED" if code == 0 else "died"), output


@contextmanager
def worktree(target: Path) -> Iterator[Path]:
    """HEAD, beside what is built of it: at one place, so that the next run needs not build all anew."""
    tree = target / "mutants-tree"
    git = ["git", "-C", str(ROOT), "worktree"]
    if tree.exists():
        sys.exit(
            f"{tree} is in use by another run; if one was killed: {shlex.join([*git, 'remove', '--force', str(tree)])}"
        )
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run([*git, "add", "--quiet", "--detach", "--force", str(tree), "HEAD"], check=True)
    try:
        for ignored in (Path(".venv"), LIBRARY):
            if (ROOT / ignored).exists():
                lend(ROOT / ignored, tree / ignored)
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def lend(source: Path, place: Path) -> None:
    """The library may be replaced by that of a broken tree; the environment is only read."""
    if source.name == ".venv":
        place.symlink_to(source.resolve(), target_is_directory=True)
    else:
        shutil.copytree(source, place)


def table() -> str:
    """All mutants, for the document."""
    rows = [f"| {it.name} | {it.what} | `{it.dies_by.replace('|', chr(92) + '|')}` |" for it in sorted_by_name()]
    return "\n".join([BEGIN, "| mutant | what it breaks | what notices |", "|---|---|---|", *rows, END])


def sorted_by_name() -> list[Mutant]:
    return sorted(mutants([]), key=lambda mutant: mutant.name)


def with_table(document: str) -> str:
    before, _, rest = document.partition(BEGIN)
    return before + table() + rest.partition(END)[2]


def campaign(chosen: list[Mutant], target: Path, baseline: bool) -> bool:
    """Print a line as each is tried. -> whether all died (and every command passes on the whole tree)"""
    wanted = ("died", "died (hung)", "passes")
    rows: list[tuple[str, str]] = []

    def note(name: str, started: float, outcome: tuple[str, str]) -> None:
        verdict, output = outcome
        rows.append((name, verdict))
        noticed = "".join(f"\n{'':29}{test}" for test in failed_tests(output)) if verdict == "died" else ""
        print(f"{verdict:18} {time.monotonic() - started:6.1f} s  {name}{noticed}", flush=True)
        if verdict not in wanted:
            print("".join(f"    {line}\n" for line in output.splitlines()[-12:]), end="", flush=True)

    with worktree(target) as tree:
        for command, group in groupby(chosen, key=lambda mutant: mutant.dies_by):
            if baseline:
                note(f"unbroken: {command}", time.monotonic(), try_whole(command, tree, target))
            for mutant in group:
                note(mutant.name, time.monotonic(), try_mutant(mutant, tree, target))
    missed = [f"{name}: {verdict}" for name, verdict in rows if verdict not in wanted]
    print(f"{len(chosen)} mutants, {len(missed)} of the lines above are not as they should be", *missed, sep="\n  ")
    return not missed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which patches (default: all)")
    parser.add_argument("--target", type=Path, default=ROOT / "native" / "target" / "mutants", help="cargo's folder")
    parser.add_argument("--baseline", action="store_true", help="each command must pass on the unbroken tree before")
    parser.add_argument("--table", action="store_true", help=f"write the table in {DOCUMENT.name} anew, run nothing")
    chosen = parser.parse_args(arguments)
    if chosen.table:
        DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
        return 0
    # Ended, it leaves nothing behind either.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    return 0 if campaign(mutants(chosen.names), chosen.target.resolve(), chosen.baseline) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
