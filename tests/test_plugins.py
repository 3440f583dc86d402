"""A loss in a package of somebody else: listed, explained, checked and run, and harmless when it is broken."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dml_bench.errors import OptionError
from dml_bench.registry import Registry

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## A loss of your own")[1].split("\n## ")[0]
MODULE, ENTRY_POINT = (re.search(rf"```{kind}\n(.*?)```", SECTION, re.DOTALL)[1] for kind in ("python", "toml"))
RECIPE = """
name: mine
dataset: digits
training: {epochs: 1, sampler: {name: pxk, classes_per_batch: 5, images_per_class: 4}}
evaluation: {metrics: [recall@1]}
references: false
loss: {name: prototypes, scale: 7}
"""


def install(folder, module, *points, name="my_losses"):
    """Put a module and the metadata of its package into a folder, as pip would."""
    (folder / f"{name}.py").write_text(textwrap.dedent(module))
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("\n".join(["[dml_bench.losses]", *points, ""]))


def dml_bench(*words, plugins, cwd):
    path = os.pathsep.join([str(plugins), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "dml_bench", *map(str, words)]
    env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, env=env)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The package that the README shows."""
    folder = tmp_path_factory.mktemp("mine")
    install(folder, MODULE, ENTRY_POINT.splitlines()[1].replace('"', ""))
    (folder / "mine.yaml").write_text(RECIPE)
    return folder


@pytest.mark.e2e
def test_the_readmes_loss_is_listed_and_explained(mine):
    listed = dml_bench("list", "losses", "--json", plugins=mine, cwd=mine)
    assert listed.returncode == 0, listed.stderr
    names = {entry["name"] for entry in json.loads(listed.stdout)}
    assert {"prototypes", "softtriple"} <= names
    info = dml_bench("info", "losses", "prototypes", plugins=mine, cwd=mine)
    assert info.returncode == 0, info.stderr
    assert "scale: default 10.0; number > 0" in info.stdout


@pytest.mark.e2e
def test_the_readmes_loss_runs_in_worker_processes(mine):
    done = dml_bench("run", "mine.yaml", "--jobs", "1", plugins=mine, cwd=mine)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (json.loads(path.read_text()) for path in (mine / "runs/mine").glob("*-s0/record.json"))
    assert record["status"] == "ok"
    assert record["loss"] == "prototypes"
    assert record["metrics"]["recall@1"] > 0.5


@pytest.mark.e2e
def test_the_readmes_loss_keeps_the_rules(mine):
    code = "from dml_bench.testing import check_loss; check_loss('prototypes')"
    path = os.pathsep.join([str(mine), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120, cwd=mine, env=env)


@pytest.mark.e2e
def test_options_of_a_plug_in_are_checked_like_any_other(mine):
    wrong = dml_bench("check", "mine.yaml", "--set", "loss.scale=-1", plugins=mine, cwd=mine)
    assert wrong.returncode == 2
    assert "loss.scale: must be greater than 0, not -1" in wrong.stderr
    unknown = dml_bench("check", "mine.yaml", "--set", "loss.scael=1", plugins=mine, cwd=mine)
    assert "did you mean 'scale'?" in unknown.stderr


@pytest.mark.e2e
def test_the_readmes_loss_does_not_exist_without_its_package(mine, tmp_path):
    done = dml_bench("check", mine / "mine.yaml", plugins=tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "no losses named 'prototypes'" in done.stderr


BROKEN = {
    "import": ("import no_such_library", "loss", "No module named 'no_such_library'"),
    "attribute": ("loss = 3", "lost", "AttributeError"),
    "number": ("loss = 3", "loss", "Type"),
    "signature": ("def loss(task, margin): ...", "loss", "margin must be positional-only"),
    "annotation": ("def loss(task, /, *, margin=0.5): ...", "loss", "margin must have a type annotation"),
    "raises": ("raise SystemError('boom')", "loss", "SystemError: boom"),
}


@pytest.mark.parametrize(("module", "attribute", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plug_in_is_named_and_harms_nobody_else(module, attribute, reason, tmp_path, monkeypatch):
    install(tmp_path, module, f"mine = my_losses:{attribute}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_losses", raising=False)
    losses: Registry[object] = Registry("losses")
    losses.register("good")(lambda: 1)
    assert [entry.name for entry in losses] == ["good"]
    assert losses.build("good") == 1
    with pytest.raises(OptionError) as caught:
        losses["mine"]
    assert str(caught.value) == losses.broken["mine"]
    assert str(caught.value).startswith(f"the plug-in 'mine' of my-losses (dml_bench.losses: my_losses:{attribute})")
    assert reason in str(caught.value)


@pytest.mark.e2e
def test_the_command_line_names_a_broken_plug_in(tmp_path):
    install(tmp_path, "import no_such_library", "mine = my_losses:loss")
    listed = dml_bench("list", "losses", plugins=tmp_path, cwd=tmp_path)
    assert listed.returncode == 0
    assert "softtriple" in listed.stdout
    assert "the plug-in 'mine' of my-losses" in listed.stderr
    asked = dml_bench("info", "losses", "mine", plugins=tmp_path, cwd=tmp_path)
    assert asked.returncode == 2
    assert asked.stderr.count("\n") == 1
    assert "No module named 'no_such_library'" in asked.stderr


@pytest.mark.e2e
def test_a_name_that_two_packages_claim_is_refused(tmp_path):
    install(tmp_path, "def loss(task, /): ...", "arcface = my_losses:loss")
    asked = dml_bench("info", "losses", "arcface", plugins=tmp_path, cwd=tmp_path)
    assert asked.returncode == 2
    assert "the plug-in 'arcface' of my-losses" in asked.stderr
    assert "registered already" in asked.stderr


@pytest.mark.e2e
def test_a_real_installation_by_pip(tmp_path):
    pytest.importorskip("hatchling", reason="building without a network needs hatchling here")
    pytest.importorskip("pip", reason="no pip to install with")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "my_losses.py").write_text(MODULE)
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    project = '[project]\nname = "my-losses"\nversion = "1.0"\n'
    (source / "pyproject.toml").write_text(f"{build}{project}{ENTRY_POINT}")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, timeout=120)
    info = dml_bench("info", "losses", "prototypes", plugins=target, cwd=tmp_path)
    assert info.returncode == 0, info.stderr
