"""Conformance cards: every loss has a green one, and the published page is what the code makes."""

from pathlib import Path

import pytest
import torch

from dml_bench.errors import ContractError, OptionError
from dml_bench.losses import LOSSES, Loss
from dml_bench.testing import Card, check_loss, checks, verify, verify_all
from dml_bench.testing.finding import Finding, measured
from dml_bench.testing.page import details, markdown
from dml_bench.testing.variants import variants

PAGE = Path(__file__).parents[2] / "results" / "losses.md"


@pytest.fixture(scope="module")
def cards():
    return {card.key: card for card in verify_all()}


def test_every_card_is_green(cards):
    assert {key: list(map(str, card.failures)) for key, card in cards.items() if card.verdict != "passed"} == {}


def test_every_card_has_what_it_is_made_of(cards):
    for card in cards.values():
        assert card.of("contract")
        assert card.of("value") or card.of("identity")
        assert card.of("float32")


def test_the_published_page_is_what_the_code_makes(cards):
    text = PAGE.read_text(encoding="utf-8")
    assert text == markdown(list(cards.values())), "run: dml-bench losses verify --markdown results/losses.md"


NEVER_TRIED = {
    ("proxy", "sampled_classes"): "the classes are drawn at random; the tests of the sampled softmax take the mean",
}


@pytest.mark.parametrize("entry", list(LOSSES), ids=lambda entry: entry.name)
def test_every_option_leaves_its_default_in_some_variant(entry):
    usual = entry.check({})
    moved = {name for tried in variants(entry.name) for name, v in entry.check(tried).items() if v != usual[name]}
    assert {(entry.name, name) for name in set(usual) - moved} == {key for key in NEVER_TRIED if key[0] == entry.name}


def test_only_vectors_with_another_implementation_name_one(cards):
    lines = details(cards["proxy_nca"]) + details(cards["focal"])
    assert any("test vector proxy_nca" in line and "as does official" in line for line in lines)
    assert any("test vector focal" in line and "as does" not in line for line in lines)


def test_a_loss_without_reference_is_unverified_and_never_passed():
    assert Card("mine", (Finding("contract", "rules", True),)).verdict == "unverified"
    assert Card("mine", (Finding("contract", "rules", False),)).verdict == "failed"


def test_a_check_that_raises_is_a_failure(monkeypatch):
    def broken(key):
        raise KeyError("lost")

    monkeypatch.setattr(checks, "CHECKS", [broken])
    monkeypatch.setattr("dml_bench.testing.card.CHECKS", [broken])
    card = verify("contrastive")
    assert card.verdict == "failed"
    assert "KeyError" in details(card)[-1]


def test_an_error_that_is_not_a_number_fails():
    finding = measured("value", "x", float("nan"), 1e-9)
    assert not finding.passed
    assert finding.share == float("inf")


def test_unknown_names_are_refused_before_anything_runs():
    with pytest.raises(OptionError, match="did you mean 'softtriple'"):
        verify_all(["softtripel"])


class Ignoring(Loss):
    """A loss that breaks one rule after the other, as ``how`` says."""

    def __init__(self, task, how):
        super().__init__(task)
        self.how = how

    def terms(self, embeddings, labels, indices=None, **options):
        if self.how == "unchecked":
            return self.compute(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), labels, indices)
        return super().terms(embeddings, labels, indices, **options)

    def compute(self, embeddings, labels, indices):
        value = embeddings.norm(dim=1).mean()
        terms = {
            "infinite": value / (len(labels) - 1),
            "still": value.detach().requires_grad_(),
            "class": value * labels.double().mean().to(value.dtype),
            "wide": value.double(),
            "unchecked": value,
        }
        return {"length": terms.get(self.how, value)}

    def forward(self, embeddings, labels, indices=None, **options):
        value = super().forward(embeddings, labels, indices, **options)
        return value + 1 if self.how == "more" else value


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("infinite", "one finite number on any batch.*one_sample"),
        ("still", "Gradients reach the embeddings"),
        ("more", "terms add up to the loss"),
        ("class", "Names of classes do not matter"),
        ("wide", "computed in float32"),
        ("unchecked", "refused with a DataError.*without a word"),
    ],
)
def test_check_loss_names_the_broken_rule(how, message):
    def mine(task, /):
        return Ignoring(task, how)

    with pytest.raises(ContractError, match=f"'mine' breaks the rule.*{message}"):
        check_loss(mine)


def test_check_loss_takes_factories_names_and_options():
    def mine(task, /, *, how: str = "well"):
        return Ignoring(task, how)

    check_loss(mine)
    check_loss("softtriple", centers_per_class=2)
    with pytest.raises(ContractError):
        check_loss(mine, how="still")
    with pytest.raises(OptionError, match="did you mean 'how'"):
        check_loss(mine, hwo="still")
