from __future__ import annotations

from pathlib import Path

from mlops.serving.memory import Memory


def test_what_was_noted_last_is_recalled_at_the_same_port(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "registered", 8011, Path("/models/1.0.0"))
    assert memory.recall() is None

    memory.note("rag_embedding_model", "1.2.3")
    memory.note("rag_embedding_model", "1.2.4")

    last = Memory(tmp_path / "registered", 8011, Path("/models/1.0.0")).recall()
    assert last is not None
    assert (last.model, last.version) == ("rag_embedding_model", "1.2.4")
    assert Memory(tmp_path / "registered", 8012, Path("/models/1.0.0")).recall() is None


def test_another_command_line_or_a_torn_file_recalls_nothing(tmp_path: Path) -> None:
    memory = Memory(tmp_path, 8011, Path("/models/1.0.0"))
    memory.note("rag_embedding_model", "1.2.3")
    assert Memory(tmp_path, 8011, Path("/models/1.1.0")).recall() is None

    memory.path.write_bytes(memory.path.read_bytes()[:9])
    assert memory.recall() is None
    memory.forget()
    memory.forget()
    assert not memory.path.exists()
