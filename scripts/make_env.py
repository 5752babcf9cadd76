"""Write `.env` for docker-compose.mlops.yml: a random value for every name of `.env.example`.

Values that stand there are kept, so it may be run again when a name has been added.
"""

import base64
import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE64_KEYS = {
    "AIRFLOW_FERNET_KEY": base64.urlsafe_b64encode,  # 32 bytes, as Fernet wants them
    "MINIO_KMS_KEY": base64.b64encode,  # 32 bytes, as MinIO wants them
}


def names(example: str) -> list[str]:
    lines = (line.partition("=") for line in example.splitlines())
    return [name for name, equals, _ in lines if equals and not name.startswith("#")]


def random_value(name: str) -> str:
    """Hexadecimal where nothing else is asked for: it needs no quoting in an address or a shell."""
    if name in BASE64_KEYS:
        return BASE64_KEYS[name](secrets.token_bytes(32)).decode()
    return secrets.token_hex(8 if name.endswith(("_USER", "_ACCESS_KEY")) else 24)


def filled(example: str, present: str) -> tuple[str, list[str]]:
    """The file's new text, and the names that were added to it."""
    lines = [line for line in present.splitlines() if "=" in line or line.startswith("#")]
    given = {name for name, _, value in (line.partition("=") for line in lines) if value}
    added = [name for name in names(example) if name not in given]
    kept = [line for line in lines if line.partition("=")[0] not in added]
    return "\n".join([*kept, *(f"{name}={random_value(name)}" for name in added), ""]), added


def main(directory: Path) -> int:
    path = directory / ".env"
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    text, added = filled(example, path.read_text(encoding="utf-8") if path.exists() else "")
    if not added:
        print(f"{path} has every value")
        return 0
    part = path.with_name(".env.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
    print(f"{path}: made {len(added)} values")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
