"""Compile the request path with mypyc, where there is a C compiler: `make accelerate`.

Leaves nothing half made: the result is built beside its place and moved there whole. What was
compiled from other sources is removed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gateway import compiled  # noqa: E402  its path was just set

BUILD_S = 600
"""Longest build; it takes about 25 s."""


def main() -> int:
    if "--extensions" in sys.argv:
        build(Path(sys.argv[-1]))
        return 0
    target = compiled.directory()
    if compiled.library(target).exists():
        print(f"the request path is compiled already: {target.relative_to(ROOT)}")
        return 0
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        print(f"no C compiler ({compiler}): the gateway runs as plain Python, which costs more CPU")
        return 0
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as name:
        made = Path(name)
        command = [sys.executable, __file__, "--extensions", str(made)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_S, check=False
        )
        if done.returncode != 0:
            print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
            print("compiling failed; the gateway runs as plain Python", file=sys.stderr)
            return 1
        if compiled.directory() != target:
            print("the sources changed meanwhile; run it again", file=sys.stderr)
            return 1
        for old in target.parent.glob("????????????????"):
            shutil.rmtree(old)
        (made / "out").rename(target)
    print(f"compiled the request path: {target.relative_to(ROOT)}")
    return 0


def build(made: Path) -> None:
    """Run by `main` in a process of its own: setuptools ends the process where it fails."""
    from mypyc.build import mypycify  # noqa: PLC0415  only needed here
    from setuptools import Distribution  # noqa: PLC0415

    # Calls within the library are direct: nobody puts a function of another one in between.
    direct = "-fno-semantic-interposition -fno-plt"
    os.environ["CFLAGS"] = f"{os.environ.get('CFLAGS', '')} -g0 {direct}"
    extensions = mypycify(
        [
            "--config-file",
            str(ROOT / "pyproject.toml"),
            *(str(source.relative_to(ROOT)) for source in compiled.sources()),
        ],
        group_name=compiled.GROUP,
        target_dir=str(made / "c"),
        debug_level="0",
    )
    distribution = Distribution({"name": "gateway", "ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(made / "out"), str(made / "temp")
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    sys.exit(main())
