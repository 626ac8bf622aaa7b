"""Writes the schema files of all documents: `python -m benchmarks.documents.schemas`."""

from benchmarks.documents.schemas import DOCUMENTS, FOLDER, schema_text

if __name__ == "__main__":
    for name in DOCUMENTS:
        (FOLDER / f"{name}.json").write_text(schema_text(name))
