"""`python -m cli` is the same as `rag-mlops`."""

from cli.main import main

if __name__ == "__main__":
    main(prog_name="rag-mlops")
