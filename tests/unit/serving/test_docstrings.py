from __future__ import annotations

from pathlib import Path

from mlops.serving.docstrings import docstrings_under

SOURCE = '''
def shown():
    """Shown."""

def _hidden():
    """Hidden."""

async def later():
    """Later."""

class Thing:
    """A thing."""

    def method(self):
        """A method."""

    def _private(self):
        """Private."""

add_newdoc("compiled", """Compiled.""")
add_newdoc("package.core", "array", """An array.""")
add_newdoc("package.core", "array", ("sort", """Sorts."""))
add_newdoc("made", "at " + "run time")
'''


def test_public_things_are_read_in_order_without_private_parts_of_names(tmp_path: Path) -> None:
    (tmp_path / "_impl.py").write_text(SOURCE)
    assert list(docstrings_under(tmp_path, "package")) == [
        ("package.shown", "Shown."),
        ("package.later", "Later."),
        ("package.Thing", "A thing."),
        ("package.Thing.method", "A method."),
        ("package.compiled", "Compiled."),
        ("package.array", "An array."),
        ("package.array.sort", "Sorts."),
    ]


def test_a_private_module_of_no_package_keeps_a_name(tmp_path: Path) -> None:
    (tmp_path / "_pydecimal.py").write_text('def add():\n    """Adds."""\n')
    assert list(docstrings_under(tmp_path, "")) == [("pydecimal.add", "Adds.")]


def test_tests_and_unreadable_files_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text('def test_x():\n    """A test."""\n')
    (tmp_path / "template.py").write_text("def {name}():\n")
    (tmp_path / "binary.py").write_bytes(b"\x00\x01")
    (tmp_path / "escape.py").write_text('def f():\n    """A \\d."""\n')
    assert list(docstrings_under(tmp_path, "p")) == [("p.escape.f", "A \\d.")]
