"""Frameworks, workloads and implementations, found in their folders."""

import dataclasses
import subprocess
import sys

import pytest

from benchmarks.errors import UsageError
from benchmarks.planning import catalog
from benchmarks.planning.catalog import discover
from benchmarks.planning.implementations import read_literals

FRAMEWORK = """
from benchmarks.contract.framework import Capabilities
{more}
CAPABILITIES = Capabilities(
    name={name!r}, import_name="numpy", distributions=("numpy",), executions=("eager",),
    precisions={{"cpu": ("fp32",)}}, asynchronous_devices=(), out_of_memory_patterns=(),
    family={family!r}, base={base!r}, holds_oracle={holds_oracle!r},
)
def environment(settings):
    return {{"NAME": {name!r}}}
"""
SPEC = """
import dataclasses
from workloads.resnet50.training_spec import SPECS as OTHERS
SPECS = {{{name!r}: dataclasses.replace(OTHERS["resnet50_train"], name={own!r})}}
"""


class Lab:
    """An extension folder."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, path, text):
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def framework(self, name, folder=None, more="", family=None, base=None, holds_oracle=False):
        text = FRAMEWORK.format(
            name=name, more=more, family=family, base=base, holds_oracle=holds_oracle
        )
        self.write(f"frameworks/{folder or name}/__init__.py", text)

    def workload(self, name, own=None):
        self.write(f"workloads/{name}/spec.py", SPEC.format(name=name, own=own or name))

    def implementation(self, model, framework, literal):
        return self.write(f"workloads/{model}/{framework}_impl.py", f"IMPLEMENTS = {literal}\n")


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path / "labor")


def test_the_built_in_workload_and_framework_are_found():
    catalog = discover()
    entry = catalog.frameworks["pytorch"]
    assert entry.module == "benchmarks.frameworks.pytorch"
    assert catalog.workloads["resnet50_train"].spec_module == "workloads.resnet50.training_spec"
    implementation = catalog.implementations["resnet50_train", "pytorch"]
    assert implementation.module == "workloads.resnet50.pytorch.training"
    assert implementation.file.is_file()
    assert catalog.python_path == ()


def test_discovery_imports_no_framework():
    script = "import sys; from benchmarks.planning.catalog import discover; discover()\n"
    script += "print(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "benchmarks.frameworks.pytorch" in loaded
    assert not {"torch", "tensorflow", "jax"} & loaded


def test_an_extension_adds_frameworks_workloads_and_implementations(lab):
    lab.framework("mine")
    lab.workload("my_work")
    lab.implementation("my_work", "mine", '{"my_work"}')
    lab.implementation("resnet", "mine", '{"resnet50_train"}')
    catalog = discover([lab.folder])
    assert catalog.frameworks["mine"].module == "labor.frameworks.mine"
    assert catalog.frameworks["mine"].environment(None) == {"NAME": "mine"}
    assert catalog.workloads["my_work"].spec_module == "labor.workloads.my_work.spec"
    assert catalog.implementations["my_work", "mine"].module == "labor.workloads.my_work.mine_impl"
    other = catalog.implementations["resnet50_train", "mine"]
    assert other.module == "labor.workloads.resnet.mine_impl"
    assert catalog.python_path == (str(lab.folder.parent),)
    assert "pytorch" in catalog.frameworks


def test_an_extension_may_import_its_own_modules_and_leaves_nothing_behind(lab):
    lab.write("shared.py", "VALUE = 1")
    lab.framework("mine", more="from labor.shared import VALUE")
    before = list(sys.path)
    discover([lab.folder])
    assert sys.path == before
    assert not [name for name in sys.modules if name.partition(".")[0] == "labor"]


def test_two_folders_of_one_name_can_be_read_one_after_the_other(lab, tmp_path):
    lab.framework("mine")
    other = Lab(tmp_path / "elsewhere" / "labor")
    other.framework("yours")
    assert "mine" in discover([lab.folder]).frameworks
    assert "yours" in discover([other.folder]).frameworks


def test_a_module_that_was_there_before_is_there_afterwards(lab, monkeypatch):
    lab.framework("mine")
    there = type(sys)("labor")
    monkeypatch.setitem(sys.modules, "labor", there)
    discover([lab.folder])
    assert sys.modules["labor"] is there


def test_two_folders_of_one_name_at_once_are_refused(lab, tmp_path):
    lab.framework("mine")
    other = Lab(tmp_path / "elsewhere" / "labor")
    other.framework("yours")
    with pytest.raises(UsageError, match="two extension folders called labor"):
        discover([lab.folder, other.folder])


@pytest.mark.parametrize("kind", ["frameworks", "workloads", "implementations"])
def test_a_name_that_is_there_twice_is_refused(kind, lab):
    if kind == "frameworks":
        lab.framework("pytorch")
    elif kind == "workloads":
        lab.workload("resnet50_train")
    else:
        lab.implementation("resnet50", "pytorch", '{"resnet50_train"}')
    with pytest.raises(UsageError, match=f"two {kind} "):
        discover([lab.folder])


def test_a_framework_that_is_not_called_like_its_folder_is_refused(lab):
    lab.framework("mine", folder="yours")
    with pytest.raises(UsageError, match="expected the folder's name 'yours'"):
        discover([lab.folder])


def test_a_workload_that_is_not_called_like_its_key_is_refused(lab):
    lab.workload("my_work", own="your_work")
    with pytest.raises(UsageError, match="is called 'your_work'"):
        discover([lab.folder])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"options": {"suite": (1, 2)}}, "option 'suite': expected a name of its own"),
        ({"options": {"seed": (1, 2)}}, "option 'seed': expected a name of its own"),
        ({"options": {"a": (1,)}, "way_options": {"a": (1,)}}, "option 'a': expected a name"),
        ({"options": {"a": ()}}, "option 'a' has no values"),
        ({"options": {"recipe": ("idiomatic", "tuned")}}, "option 'recipe': expected a name"),
        (
            {"options": {"recipe": ("idiomatic", "tuned")}, "way_options": {}},
            "option 'recipe': expected way_options",
        ),
        ({"way_options": {"recipe": ("tuned", "idiomatic")}}, "option 'recipe': expected way_opt"),
        ({"size_options": {"tiny": {"recipe": "tuned"}}}, "the default recipe is idiomatic"),
        ({"size_options": {"tny": {}}}, "size_options of 'tny': expected one of the sizes"),
        ({"size_options": {"tiny": {"b": 1}}}, "b=1 is not among the option's values"),
        (
            {"options": {"a": range(2, 9)}, "size_options": {"tiny": {"a": 9}}},
            "a=9 is not among the option's values",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(changes, words):
    spec = dataclasses.replace(discover().workloads["resnet50_train"].spec, **changes)
    assert words in catalog._wrong_option(spec)


def test_the_options_of_our_workloads_are_right():
    for entry in discover().workloads.values():
        assert catalog._wrong_option(entry.spec) is None


def test_an_implementation_of_an_unknown_workload_is_refused(lab):
    lab.implementation("resnet", "mine", '{"resnet50_trian"}')
    with pytest.raises(UsageError, match=r"did you mean resnet50_train\?"):
        discover([lab.folder])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('no')", "cannot be loaded: RuntimeError: no"),
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError"),
        ("CAPABILITIES = 1", "expected CAPABILITIES of type Capabilities"),
    ],
)
def test_a_framework_that_cannot_be_loaded_is_named(text, words, lab):
    lab.write("frameworks/mine/__init__.py", text)
    with pytest.raises(UsageError, match=words):
        discover([lab.folder])


def test_a_framework_without_an_environment_is_refused(lab):
    text = FRAMEWORK.format(
        name="mine", more="", family=None, base=None, holds_oracle=False
    ).replace("def environment", "def other")
    lab.write("frameworks/mine/__init__.py", text)
    with pytest.raises(UsageError, match="expected a function environment"):
        discover([lab.folder])


@pytest.mark.parametrize("name", ["my-lab", "class", "json", "benchmarks", "workloads"])
def test_a_folder_whose_name_cannot_be_a_package_of_its_own_is_refused(name, tmp_path):
    Lab(tmp_path / name).framework("mine")
    with pytest.raises(UsageError, match=name):
        discover([tmp_path / name])


def test_a_folder_with_the_name_of_an_installed_package_is_refused(tmp_path):
    Lab(tmp_path / "numpy").framework("mine")
    with pytest.raises(UsageError, match="cannot be loaded"):
        discover([tmp_path / "numpy"])


def test_a_folder_that_is_no_extension_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        discover([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="expected a folder frameworks/, workloads/ or metrics/"):
        discover([tmp_path / "empty"])


def test_a_spec_of_an_earlier_contract_is_refused_with_where_to_look(lab):
    text = SPEC.format(name="old", own="old").replace("name='old')", "name='old', requests=None)")
    lab.write("workloads/old/spec.py", text)
    with pytest.raises(UsageError, match=r"requests.*\nhint: .*earlier Dyno: CHANGELOG.md"):
        discover([lab.folder])


def test_what_a_file_implements_is_read_without_running_it(lab):
    file = lab.implementation("toy", "mine", '{"a", "b"}\nraise RuntimeError')
    assert read_literals(file, ["IMPLEMENTS"]) == {"IMPLEMENTS": {"a", "b"}}


def test_a_framework_s_folder_may_hold_what_several_implementations_share(lab):
    lab.framework("mine")
    lab.write("workloads/toy/training_spec.py", SPEC.format(name="toy_train", own="toy_train"))
    lab.write("workloads/toy/inference_spec.py", SPEC.format(name="toy_infer", own="toy_infer"))
    lab.write("workloads/toy/mine/network.py", "WIDTH = 2\n")
    train = lab.write("workloads/toy/mine/training.py", "IMPLEMENTS = {'toy_train'}\n")
    infer = lab.write("workloads/toy/mine/inference.py", "IMPLEMENTS = {'toy_infer'}\n")
    found = discover([lab.folder])
    assert found.implementations["toy_train", "mine"].file == train
    assert found.implementations["toy_infer", "mine"].file == infer
    assert found.implementations["toy_infer", "mine"].module == "labor.workloads.toy.mine.inference"


def test_a_framework_s_folder_that_implements_nothing_is_refused(lab):
    lab.framework("mine")
    lab.workload("toy")
    lab.write("workloads/toy/mine/training.py", "IMPLEMENT = {'toy'}\n")
    with pytest.raises(UsageError, match=r"mine: no file in it has .* IMPLEMENTS"):
        discover([lab.folder])


def test_what_a_model_is_exported_from_is_read_with_it(lab):
    lab.framework("mine")
    lab.workload("toy")
    lab.implementation(
        "toy",
        "mine",
        "{'toy'}\nEXPORTED_FROM = {'pytorch': 'labor.export'}\n"
        "QUANTISED_BY = {'onnxruntime': 'labor.quantise'}",
    )
    found = discover([lab.folder]).implementations["toy", "mine"]
    assert found.exported_from == {"pytorch": "labor.export"}
    assert list(found.exporters("fp32")) == ["pytorch"]
    assert found.exporters("int8") == {
        "pytorch": "labor.export",
        "onnxruntime": "labor.quantise",
    }


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        ("EXPORTED_FROM = {'pytorhc': 'labor.export'}", "unknown framework 'pytorhc'"),
        ("EXPORTED_FROM = ['labor.export']", "expected modules by framework"),
        ("EXPORTER = 'labor.export'", "EXPORTER is no longer read"),
        ("QUANTISER = 'labor.quantise'", "QUANTISER is no longer read"),
    ],
)
def test_an_exporter_that_cannot_be_run_is_refused(literal, message, lab):
    lab.framework("mine")
    lab.workload("toy")
    lab.implementation("toy", "mine", f"{{'toy'}}\n{literal}")
    with pytest.raises(UsageError, match=message):
        discover([lab.folder])


def test_a_file_says_which_of_its_workloads_take_statistics_per_replica(lab):
    lab.framework("mine")
    lab.workload("toy")
    lab.implementation("toy", "mine", "{'toy', 'resnet50_train'}\nPER_REPLICA = {'toy'}")
    found = discover([lab.folder]).implementations
    assert found["toy", "mine"].is_per_replica
    assert not found["resnet50_train", "mine"].is_per_replica


def test_a_library_names_what_it_computes_with(lab):
    lab.framework("mine", base="jax")
    found = discover([lab.folder])
    assert found.bases == {"mine": "jax"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "jaxx"}, r"mine: CAPABILITIES.base: unknown framework 'jaxx'"),
        ({"base": "other"}, r"other is a library on jax itself"),
        ({"base": "jax", "holds_oracle": True}, r"a library on jax cannot hold the oracle"),
    ],
)
def test_a_library_that_cannot_be_is_refused(changes, message, lab):
    lab.framework("other", base="jax")
    lab.framework("mine", **changes)
    with pytest.raises(UsageError, match=message):
        discover([lab.folder])


def test_a_file_says_which_of_its_workloads_differ_in_their_mathematics(lab):
    lab.framework("mine")
    lab.workload("toy")
    lab.implementation("toy", "mine", "{'toy', 'resnet50_train'}\nDIFFERS = {'toy': 'no decay'}")
    found = discover([lab.folder]).implementations
    assert found["toy", "mine"].differs == "no decay"
    assert found["resnet50_train", "mine"].differs is None


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        ("DIFFERS = {'tyo': 'no decay'}", r"unknown workload of IMPLEMENTS 'tyo'"),
        ("DIFFERS = {'toy'}", r"expected reasons by workload, DIFFERS"),
    ],
)
def test_a_difference_that_is_none_of_the_files_is_refused(literal, message, lab):
    lab.implementation("toy", "mine", f"{{'toy'}}\n{literal}")
    with pytest.raises(UsageError, match=message):
        discover([lab.folder])


TUNED_ON_CPU = "{'toy', 'resnet50_train'}\nTUNED = {'toy': 'the stem'}\nTUNED_ON = {'toy': {'cpu'}}"


def test_a_file_says_which_of_its_workloads_have_a_tuned_recipe_and_what_it_rewrites(lab):
    lab.framework("mine")
    lab.workload("toy")
    lab.implementation("toy", "mine", TUNED_ON_CPU)
    found = discover([lab.folder]).implementations
    assert found["toy", "mine"].rewrites == "the stem"
    assert found["toy", "mine"].rewrites_on == {"cpu"}
    assert found["resnet50_train", "mine"].rewrites is None


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        ("TUNED = {'tyo': 'the stem'}", r"TUNED: unknown workload of IMPLEMENTS 'tyo'"),
        ("TUNED = {'toy'}", r"expected rewritings by workload, TUNED"),
        ("TUNED = {'toy': 'the stem'}", r"TUNED: toy has no option recipe"),
        ("TUNED_ON = {'toy': {'cpu'}}", r"TUNED_ON: unknown workload of TUNED 'toy'"),
        ("TUNED = {'toy': 'x'}; TUNED_ON = {'toy': 'cpu'}", r"expected sets of devices by work"),
        ("TUNED = {'toy': 'x'}\nTUNED_ON = {'toy': {'cpp'}}", r"TUNED_ON: unknown device 'cpp'"),
    ],
)
def test_a_rewriting_that_nobody_could_select_is_refused(literal, message, lab):
    lab.framework("mine")
    text = SPEC.format(name="toy", own="toy").replace("name='toy'", "name='toy', way_options={}")
    lab.write("workloads/toy/spec.py", text)
    lab.implementation("toy", "mine", f"{{'toy'}}\n{literal}")
    with pytest.raises(UsageError, match=message):
        discover([lab.folder])


def test_a_misspelt_workload_that_takes_statistics_per_replica_is_refused(lab):
    lab.implementation("toy", "mine", "{'toy'}\nPER_REPLICA = {'tyo'}")
    with pytest.raises(UsageError, match=r"unknown workload of IMPLEMENTS 'tyo'"):
        discover([lab.folder])


def test_memory_that_is_estimated_without_the_framework_is_refused(lab):
    """As extension folders did before the framework's capabilities were passed."""
    text = SPEC.format(name="toy", own="toy").replace(
        "name='toy'", "name='toy', memory_bytes=lambda case: 2**30"
    )
    lab.write("workloads/toy/spec.py", text)
    with pytest.raises(UsageError) as refused:
        discover([lab.folder])
    message = str(refused.value)
    assert "workloads/toy/spec.py: SPECS['toy']: memory_bytes(case) cannot be called" in message
    assert "expected memory_bytes(case, capabilities)" in message


@pytest.mark.parametrize("literal", ["names()", "['a']", "{1}", "", "(", "{'a'} | {'b'}"])
def test_what_is_no_literal_set_of_names_is_refused(literal, lab):
    lab.implementation("toy", "mine", literal)
    with pytest.raises(UsageError, match="IMPLEMENTS"):
        discover([lab.folder])


def test_a_shared_folder_is_no_framework(lab):
    lab.write("frameworks/shared/__init__.py", 'FAMILY = "shared by two"\n')
    lab.framework("alpha")
    assert set(discover([lab.folder]).frameworks) == {*discover().frameworks, "alpha"}


def test_a_family_shares_an_implementation_and_a_framework_may_have_its_own(lab):
    lab.framework("kin_alpha", family="kin")
    lab.framework("kin_beta", family="kin")
    lab.workload("resnet")
    shared = lab.implementation("resnet", "kin", {"resnet"})
    own = lab.implementation("resnet", "kin_beta", {"resnet"})
    found = discover([lab.folder]).implementations
    assert found["resnet", "kin_alpha"].file == shared
    assert found["resnet", "kin_alpha"].framework == "kin_alpha"
    assert found["resnet", "kin_beta"].file == own
    assert ("resnet", "kin") not in found


def test_a_framework_of_the_familys_name_keeps_its_file_and_lends_it(lab):
    lab.framework("kin")
    lab.framework("kin_alpha", family="kin")
    lab.workload("resnet")
    file = lab.implementation("resnet", "kin", {"resnet"})
    found = discover([lab.folder]).implementations
    assert found["resnet", "kin"].file == found["resnet", "kin_alpha"].file == file
