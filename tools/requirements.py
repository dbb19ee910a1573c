"""Print what pyproject.toml asks for, one requirement a line, so that tools are installed without building the package."""

import sys
import tomllib
from pathlib import Path


def main(extras: list[str]) -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    wanted = project["build-system"]["requires"] + project["project"]["dependencies"]
    for extra in extras:
        wanted += project["project"]["optional-dependencies"][extra]
    print("\n".join(wanted))


if __name__ == "__main__":
    main(sys.argv[1:])
