"""Which files a result depends on."""

import shutil

import pytest

from benchmarks.planning.catalog import PROJECT_ROOT
from benchmarks.planning.implementations import Root
from benchmarks.planning.sources import Sources, proving_hash


@pytest.fixture
def write(tmp_path):
    def write(path, text=""):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return write


@pytest.fixture
def hashed(tmp_path):
    return lambda *modules: Sources([Root(tmp_path / "lab", "lab")]).hash_of(modules)


@pytest.mark.parametrize(
    "statement",
    [
        "import lab.shared",
        "from lab import shared",
        "from lab.shared import name",
        "from . import shared",
        "from .shared import name",
        "def build():\n    from lab import shared",
        "import lab.between",
    ],
)
def test_a_file_that_is_imported_counts(statement, write, hashed):
    write("lab/impl.py", statement)
    write("lab/between.py", "from lab import shared")
    write("lab/shared.py", "name = 1")
    before = hashed("lab.impl")
    write("lab/shared.py", "name = 2")
    assert hashed("lab.impl") != before


def test_a_relative_import_from_a_package_starts_there(write, hashed):
    write("lab/model/__init__.py", "from . import part\nfrom .. import above")
    write("lab/model/part.py")
    write("lab/above.py")
    seen = {hashed("lab.model")}
    write("lab/model/part.py", "changed = 1")
    seen.add(hashed("lab.model"))
    write("lab/above.py", "changed = 1")
    seen.add(hashed("lab.model"))
    assert len(seen) == 3


def test_a_file_that_is_not_imported_does_not_count(write, hashed):
    write("lab/impl.py", "import json\nimport labels\nimport lab.nothing")
    write("lab/other.py", "a = 1")
    before = hashed("lab.impl")
    write("lab/other.py", "a = 2")
    assert hashed("lab.impl") == before


def test_files_that_import_each_other_are_read_once(write, hashed):
    write("lab/a.py", "import lab.b")
    write("lab/b.py", "import lab.a")
    assert hashed("lab.a") == hashed("lab.b") == hashed("lab.a", "lab.b")


def test_the_same_text_in_another_module_is_another_source(write, hashed):
    write("lab/a.py", "x = 1")
    write("lab/b.py", "x = 1")
    assert hashed("lab.a") != hashed("lab.b")


@pytest.mark.parametrize("changed", ["worker/tasks/training/proof.py", "equivalence/norms.py"])
def test_a_proof_depends_on_what_compares_and_judges(changed, tmp_path):
    copy = tmp_path / "benchmarks"
    shutil.copytree(PROJECT_ROOT / "benchmarks", copy)
    before = proving_hash(copy)
    (copy / changed).write_text((copy / changed).read_text() + "# other\n")
    proving_hash.cache_clear()
    assert proving_hash(copy) != before
