"""Centers begin where the authors' code puts them, which acts on their effective learning rate."""

import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

from dml_bench import losses


@pytest.mark.parametrize(
    ("classes", "per_class", "length"), [(98, 10, 0.147), (11318, 2, 0.031)], ids=["cars196", "sop"]
)
def test_softtriple_official(classes, per_class, length):
    """kaiming_uniform(a=sqrt 5) on (D, C K), whose fan-in is the number of centers; lengths as measured on the code."""
    torch.manual_seed(0)
    centers = losses.build("softtriple", classes, 64, centers_per_class=per_class, init="official").centers.detach()
    theirs = torch.empty(64, classes * per_class)
    nn.init.kaiming_uniform_(theirs, a=5**0.5)
    bound = (classes * per_class) ** -0.5
    assert 0.999 * bound < centers.abs().max() <= bound
    assert theirs.abs().max() <= bound
    assert centers.norm(dim=2).mean().item() == pytest.approx(length, rel=0.02)
    assert ks_2samp(centers.flatten()[:60_000], theirs.flatten()[:60_000]).pvalue > 0.001


def test_softtriple_unit_is_about_one_long():
    torch.manual_seed(0)
    centers = losses.build("softtriple", 98, 64).centers.detach()
    assert centers.norm(dim=2).mean().item() == pytest.approx(1, rel=0.02)


def test_proxy_anchor():
    """kaiming_normal(fan_out) on (C, D)."""
    torch.manual_seed(0)
    centers = losses.build("proxy_anchor", 100, 512).centers.detach()
    theirs = torch.empty(100, 512)
    nn.init.kaiming_normal_(theirs, mode="fan_out")
    assert centers.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
    assert ks_2samp(centers.flatten(), theirs.flatten()).pvalue > 0.001
