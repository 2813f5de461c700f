"""Makes this environment know the package as an installation does: by its entry points. Its modules
stay where they are, and nothing is built."""

import sysconfig
from pathlib import Path

try:
    import tomllib
except ImportError:
    import tomli as tomllib

PACKAGE = Path(__file__).parents[3]
VERSION = "0.0.0"


def main():
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    groups = project["entry-points"]
    lines = []
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    packages = Path(sysconfig.get_path("purelib"))
    (packages / "celeriac.pth").write_text(f"{PACKAGE / 'src'}\n")
    told = packages / f"celeriac-{VERSION}.dist-info"
    told.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: celeriac\nVersion: {VERSION}\n"
    (told / "METADATA").write_text(metadata)
    (told / "entry_points.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
