"""What the README shows is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BASH = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def shell(command, cwd):
    """Run a line of the README in a copy of the checkout; ``pip install .`` has been done by tox."""
    tools = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, shell=True, capture_output=True, text=True, cwd=cwd, timeout=900, env=env)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "results").mkdir()
    for name in ("recipes", "results/records"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def test_the_readmes_commands_run(checkout):
    commands = [line for block in BASH for line in block.splitlines() if line and "tox" not in line]
    assert commands[0] == "pip install . && dml-bench run recipes/quickstart.yaml"
    for command in [line.removeprefix("pip install . && ") for line in commands]:
        done = shell(command, checkout)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (checkout / "runs/quickstart/report/summary.md").exists()
    assert (checkout / "report/summary.csv").exists()
    assert (checkout / "report/report.html").exists()


@pytest.mark.parametrize("name", ["dots.svg", "ranks.svg"])
def test_the_readmes_pictures_say_what_its_commands_draw(checkout, name):
    """The gallery is drawn too, but of runs whose last digits depend on the machine."""
    drawn, shown = ((folder / "results/readme" / name).read_text("utf-8") for folder in (checkout, ROOT))
    words = re.findall(r"<text[^>]*>([^<]+)</text>", shown)
    assert len(words) > 20 and words == re.findall(r"<text[^>]*>([^<]+)</text>", drawn)


def test_the_pictures_and_pages_that_the_readme_shows_are_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert len(links) > 10 and [link for link in links if not (ROOT / link).exists()] == []
    commands = [line.split()[-1] for line in "\n".join(BASH).splitlines() if line.startswith("dml-bench plot")]
    assert len(commands) == 3 and set(commands) <= set(links)


def test_the_readmes_python_runs(checkout):
    done = shell(f"{sys.executable} -W error -c '{chr(10).join(PYTHON)}'", checkout)
    assert done.returncode == 0, done.stderr


def test_the_readmes_recipes_are_valid(checkout):
    (checkout / "example.yaml").write_text(YAML[0])
    (checkout / "composed.yaml").write_text("dataset: digits\n" + YAML[1])
    done = shell("dml-bench check example.yaml composed.yaml", checkout)
    assert done.returncode == 0, done.stderr


def test_every_recipe_is_valid(checkout):
    recipes = sorted(path.relative_to(ROOT) for path in (ROOT / "recipes").rglob("*.yaml"))
    done = shell(f"dml-bench check {' '.join(map(str, recipes))}", checkout)
    assert done.returncode == 0, done.stderr
    assert len(recipes) >= 3


@pytest.mark.parametrize("kind", ["losses", "datasets", "metrics"])
def test_the_readmes_tables_are_what_list_prints(checkout, kind):
    shown = README.split(f"<!-- {kind} -->\n")[1].split("<!-- end -->")[0]
    assert shown.strip() == shell(f"dml-bench list {kind} --markdown", checkout).stdout.strip()


def test_the_readmes_first_table_is_the_published_one():
    shown = README.split("<!-- quickstart table -->\n")[1].split("<!-- end -->")[0].strip()
    assert shown
    assert shown in (ROOT / "results/quickstart/summary.md").read_text(encoding="utf-8")
