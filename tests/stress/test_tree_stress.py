"""Random operations on a tree, in the manner of fsstress, through two mounts. The model is the local file system: each
operation is done there too and must have the same outcome, errno included; the trees are compared now and then.

Every run prints its seed. Again:  python tests/stress/test_tree_stress.py --mounts DIR1 DIR2 --model DIR --seed SEED
"""

import argparse
import collections
import errno
import os
import random
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster

BUDGET_S = 10
STEPS = 250
NAMES = [*"abcdef", "n" * 255, "\u00e9", " "]
KEPT: tuple[int, ...] = ()


class Wrong(AssertionError):
    """The tree is not what the model is."""


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "done"


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """What a tree looks like to a program: kind, mode, links, size, content, by path; times are not compared."""
    seen: dict[str, tuple[object, ...]] = {}
    for place, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(place, name)
            found = path.lstat()
            content: object = None
            if stat.S_ISLNK(found.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(found.st_mode):
                content = (found.st_size, path.read_bytes())
            seen[str(path.relative_to(root))] = (stat.filemode(found.st_mode), found.st_nlink, content)
    return seen


@dataclass
class TreeStress:
    mounts: tuple[Path, Path]
    model: Path
    seed: int
    done: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=40))

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.name = f"tree-{self.seed}"

    def run(self, steps: int, until: float = float("inf")) -> None:
        (self.mounts[0] / self.name).mkdir()
        (self.model / self.name).mkdir()
        try:
            for step in range(steps):
                if time.monotonic() > until:
                    break
                self.step()
                if step % 50 == 49:
                    self.compare()
            self.compare()
        except (OSError, Wrong) as error:
            raise Wrong(f"seed {self.seed}: {error!r} after\n  " + "\n  ".join(self.done)) from error
        finally:
            shutil.rmtree(self.mounts[1] / self.name)
            shutil.rmtree(self.model / self.name)

    def path(self) -> str:
        return "/".join(self.draw.choices(NAMES, k=self.draw.choice([1, 1, 1, 2, 2, 3])))

    def step(self) -> None:
        steps: dict[str, tuple[int, Callable[[Path, Path], object]]] = {
            "mkdir": (10, lambda path, _: path.mkdir()),
            "write": (12, self.write),
            "append": (5, self.append),
            "rename": (14, os.rename),
            "link": (6, lambda path, other: os.link(path, other, follow_symlinks=False)),
            "symlink": (5, lambda path, other: os.symlink(os.path.relpath(other, path.parent), path)),
            "unlink": (8, lambda path, _: os.unlink(path)),
            "rmdir": (5, lambda path, _: os.rmdir(path)),
            "chmod": (4, lambda path, _: os.chmod(path, self.number % 0o1000)),
            "truncate": (4, lambda path, _: os.truncate(path, self.number)),
            "list": (4, lambda path, _: os.listdir(path)),
            "create": (4, lambda path, _: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))),
            "copy": (4, lambda path, other: shutil.copyfile(path, other, follow_symlinks=False)),
            "rmtree": (1, lambda path, _: shutil.rmtree(path)),
        }
        (name,) = self.draw.choices(list(steps), [weight for weight, _ in steps.values()])
        path, other = self.path(), self.path()
        self.number = self.draw.choice([0, 10, 5000, 8192, 20_000, 100_000])
        self.data = self.draw.randbytes(self.number)
        side = self.draw.randrange(2)
        expected = outcome(lambda: steps[name][1](self.model / self.name / path, self.model / self.name / other))
        seen = outcome(
            lambda: steps[name][1](self.mounts[side] / self.name / path, self.mounts[side] / self.name / other)
        )
        self.done.append(f"mount {side + 1}: {name} {path!r} {other!r} {self.number}: {expected}")
        if seen != expected:
            raise Wrong(f"{name} {path!r} {other!r} on mount {side + 1}: {seen}, not {expected}")

    def write(self, path: Path, _: Path) -> None:
        path.write_bytes(self.data)

    def append(self, path: Path, _: Path) -> None:
        with path.open("ab") as file:
            file.write(self.data)

    def compare(self) -> None:
        expected = picture(self.model / self.name)
        for mount in self.mounts:
            seen = picture(mount / self.name)
            for path in expected.keys() | seen.keys():
                if expected.get(path) != seen.get(path):
                    raise Wrong(f"{mount}: {path!r} is {seen.get(path)!s:.200}, not {expected.get(path)!s:.200}")


@pytest.mark.slow
def test_random_operations_on_a_tree_have_the_outcome_that_they_have_locally(cluster: Cluster, tmp_path: Path) -> None:
    until = time.monotonic() + BUDGET_S
    mounts = (cluster.mount(1), cluster.mount(2))
    for seed in KEPT:
        TreeStress(mounts, tmp_path, seed).run(STEPS)
    while time.monotonic() < until:
        TreeStress(mounts, tmp_path, random.SystemRandom().randrange(1 << 32)).run(STEPS, until)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mounts", nargs=2, type=Path, required=True)
    options.add_argument("--model", type=Path)
    options.add_argument("--seed", type=int)
    options.add_argument("--steps", type=int, default=STEPS)
    options.add_argument("--seconds", type=float, default=60)
    chosen = options.parse_args()
    until, runs, failed = time.monotonic() + chosen.seconds, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until and failed < 5:
            seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(1 << 32)
            try:
                TreeStress(tuple(chosen.mounts), chosen.model or Path(folder), seed).run(chosen.steps)
            except Wrong as wrong:
                print(wrong, flush=True)
                failed += 1
            runs += 1
            if chosen.seed is not None:
                break
    print(f"{runs} seeds, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
