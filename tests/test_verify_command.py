"""``dml-bench losses verify`` and the card that ``info`` shows."""

import pytest
from typer.testing import CliRunner

from dml_bench.cli import app
from dml_bench.errors import OptionError
from dml_bench.losses import margins


@pytest.fixture
def command():
    return lambda *words: CliRunner().invoke(app, words)


def test_verify_prints_a_row_per_loss_and_writes_the_page(command, tmp_path):
    page = tmp_path / "results" / "losses.md"
    done = command("losses", "verify", "am_softmax", "supcon", "--markdown", str(page))
    assert done.exit_code == 0, done.output
    assert "am_softmax" in done.output
    assert "passed" in done.output
    text = page.read_text(encoding="utf-8")
    assert "| [`am_softmax`](#am_softmax) | < 1e-11 |" in text
    assert "## supcon" in text
    assert "SupConLoss() on one class: it gives 0 for a batch without negatives" in text


def test_verify_exits_1_when_a_loss_fails_and_says_why(command, monkeypatch):
    monkeypatch.setattr(margins.Additive, "__call__", lambda self, target: target.similarity)
    done = command("losses", "verify", "am_softmax")
    assert done.exit_code == 1
    assert "am_softmax: FAILED value: {} on batch 'balanced': error" in done.output


def test_verify_of_an_unknown_loss_suggests_another(command):
    done = command("losses", "verify", "am_softmx")
    assert isinstance(done.exception, OptionError)
    assert "did you mean 'am_softmax'" in str(done.exception)


def test_info_shows_the_card(command):
    done = command("info", "losses", "proxy_nca")
    assert done.exit_code == 0
    assert "Card: passed" in done.output
    assert "it has the own class in the denominator, which makes it proxy_nca_pp" in done.output
