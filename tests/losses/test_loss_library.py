"""The same losses in pytorch-metric-learning, where it computes the same thing."""

import math

import pytest
import torch

from dml_bench.losses import build

losses = pytest.importorskip("pytorch_metric_learning.losses")
miners = pytest.importorskip("pytorch_metric_learning.miners")
distances = pytest.importorskip("pytorch_metric_learning.distances")
reducers = pytest.importorskip("pytorch_metric_learning.reducers")
regularizers = pytest.importorskip("pytorch_metric_learning.regularizers")

C, D, N = 7, 8, 24


@pytest.fixture(params=range(3))
def batch(request):
    torch.manual_seed(request.param)
    labels = torch.randint(C, (N,))
    means = torch.randn(C, D, dtype=torch.float64)
    return (means[labels] + torch.randn(N, D, dtype=torch.float64)).requires_grad_(), labels


def compare(batch, ours, theirs, tolerance=1e-9):
    x, y = batch
    values = [ours(x, y), theirs(x, y)]
    torch.testing.assert_close(*values, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in values), rtol=tolerance, atol=tolerance)


def with_centers(ours, theirs):
    """Give the library's loss our centers: (D, C) for softmax losses, (C, D) for proxies, (D, C K) for SoftTriple."""
    name = next(name for name in ("fc", "W", "proxies") if hasattr(theirs, name))
    columns = ours.centers.data.flatten(0, 1)
    getattr(theirs, name).data = columns if name == "proxies" else columns.T.contiguous()
    return ours, theirs


PROXY_PAIRS = {
    "norm_softmax": ({}, lambda: losses.NormalizedSoftmaxLoss(C, D, temperature=0.05)),
    "am_softmax": ({"scale": 64.0}, lambda: losses.CosFaceLoss(C, D)),
    "arcface": ({}, lambda: losses.ArcFaceLoss(C, D, margin=math.degrees(0.5))),
    "proxy_nca_pp": ({}, lambda: losses.ProxyNCALoss(C, D, softmax_scale=9)),
    "softtriple": ({"regularizer_weight": 0.0}, lambda: losses.SoftTripleLoss(C, D)),
}


@pytest.mark.parametrize("key", PROXY_PAIRS)
def test_proxy_losses(batch, key):
    options, theirs = PROXY_PAIRS[key]
    compare(batch, *with_centers(build(key, C, D, **options).double(), theirs().double()))


def test_center_regularizer(batch):
    theirs = losses.SoftTripleLoss(
        C, D, weight_regularizer=regularizers.SparseCentersRegularizer(C, 10), weight_reg_weight=0.2
    )
    # the library has no 1e-5 under the root
    compare(batch, *with_centers(build("softtriple", C, D).double(), theirs.double()), tolerance=1e-5)


def test_linear_contrastive(batch):
    compare(batch, build("contrastive", C, D, form="linear", margin=1.3), losses.ContrastiveLoss(neg_margin=1.3))


class Mined(torch.nn.Module):
    def __init__(self, miner, loss):
        super().__init__()
        self.miner, self.loss = miner, loss

    def forward(self, x, y):
        return self.loss(x, y, self.miner(x, y))


@pytest.mark.parametrize("margin", [None, 0.5])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_batch_hard(batch, margin, squared, normalize):
    distance = distances.LpDistance(normalize_embeddings=normalize, power=2 if squared else 1)
    theirs = losses.TripletMarginLoss(
        margin=margin or 0.0, smooth_loss=margin is None, distance=distance, reducer=reducers.MeanReducer()
    )
    ours = build("triplet_batch_hard", C, D, margin=margin, squared=squared, normalize=normalize)
    compare(batch, ours, Mined(miners.BatchHardMiner(distance=distance), theirs), tolerance=1e-7)


def test_every_semihard_triplet(batch):
    distance = distances.LpDistance(power=2)
    miner = miners.TripletMarginMiner(margin=0.4, type_of_triplets="semihard", distance=distance)
    theirs = losses.TripletMarginLoss(margin=0.4, distance=distance, reducer=reducers.MeanReducer())
    compare(batch, build("triplet_semihard", C, D, margin=0.4, pick="all"), Mined(miner, theirs))


@pytest.mark.parametrize("epsilon", [None, 0.1, 0.5])
def test_multi_similarity(batch, epsilon):
    theirs = losses.MultiSimilarityLoss()
    if epsilon is not None:
        theirs = Mined(miners.MultiSimilarityMiner(epsilon=epsilon), theirs)
    compare(batch, build("multi_similarity", C, D, mining_epsilon=epsilon), theirs)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(("reduction", "reducer"), [("nonzero", "AvgNonZeroReducer"), ("mean", "MeanReducer")])
def test_every_triplet(batch, squared, reduction, reducer):
    distance = distances.LpDistance(power=2 if squared else 1)
    theirs = losses.TripletMarginLoss(margin=0.3, distance=distance, reducer=getattr(reducers, reducer)())
    compare(batch, build("triplet_all", C, D, margin=0.3, squared=squared, reduction=reduction), theirs)


@pytest.mark.parametrize("learn_beta", [False, "global", "class"])
def test_margin_loss_over_every_triplet(batch, learn_beta):
    options = {"learn_beta": learn_beta, "beta_regularizer": 0.3} if learn_beta else {}
    ours = build("margin_loss", C, D, sampling="all", **options).double()
    theirs = losses.MarginLoss(
        learn_beta=bool(learn_beta), nu=0.3 if learn_beta else 0, num_classes=C if learn_beta == "class" else None
    )
    if learn_beta:  # and their number is in float32
        theirs = theirs.double()
        theirs.beta.data = ours.beta.detach().reshape(theirs.beta.shape).clone()
    compare(batch, ours, Summed(theirs), tolerance=1e-9 if learn_beta else 1e-6)


class Summed(torch.nn.Module):
    """The library returns a vector of one number where it learns one border."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, x, y):
        return self.loss(x, y).sum()


@pytest.mark.parametrize(("margin", "scale"), [(0.4, 80.0), (0.25, 256.0)])
def test_circle(batch, margin, scale):
    compare(batch, build("circle", C, D, margin=margin, scale=scale), losses.CircleLoss(m=margin, gamma=scale))


def test_supcon(batch):
    compare(batch, build("supcon", C, D, temperature=0.2), losses.SupConLoss(temperature=0.2))


def test_npair(batch):
    theirs = losses.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=False))
    compare(batch, build("npair", C, D), theirs)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_smooth_ap_where_a_batch_has_as_many_classes_as_samples_of_each(classes):
    torch.manual_seed(classes)
    x = torch.randn(classes**2, D, dtype=torch.float64, requires_grad=True)
    y = torch.arange(classes).repeat_interleave(classes)
    value = losses.SmoothAPLoss()(x, y)
    assert build("smooth_ap", C, D, include_query=True)(x, y).item() == pytest.approx(value.item(), abs=1e-5)
