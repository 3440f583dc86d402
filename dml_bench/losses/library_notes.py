"""What is known of the classes of pytorch-metric-learning 2.9: where they deviate, and which cannot be used."""

from __future__ import annotations

DIFFERS = {
    "SoftTripleLoss": (
        "it has no regularizer of centers unless given one: weight_regularizer: {name: SparseCentersRegularizer, "
        "centers_per_class: 10}, weight_reg_weight: 0.2; in float32 that one has NaN gradients once centers nearly "
        "coincide. Here: softtriple."
    ),
    "ProxyNCALoss": (
        "the own class is in the denominator, as in ProxyNCA++; softmax_scale=1 is far too soft; a sample whose "
        "probability underflows (float32, softmax_scale from 26 on) gets loss and gradient 0. Here: proxy_nca, "
        "proxy_nca_pp."
    ),
    "LargeMarginSoftmaxLoss": "the margin is fixed from the first step on, without annealing. Here: l_softmax.",
    "SphereFaceLoss": "the margin is fixed from the first step on, without annealing. Here: a_softmax.",
    "ArcFaceLoss": (
        "margin is in degrees; the gradient is NaN where a cosine rounds to 1 or -1 in float32. Here: arcface."
    ),
    "SubCenterArcFaceLoss": (
        "margin is in degrees; the gradient is NaN where a cosine rounds to 1 or -1 in float32. Here: "
        "subcenter_arcface."
    ),
    "CosFaceLoss": "nothing; the same as am_softmax with scale=64.",
    "NormalizedSoftmaxLoss": "nothing; the same as norm_softmax with scale = 1 / temperature.",
    "ProxyAnchorLoss": "nothing; the same as proxy_anchor.",
    "ContrastiveLoss": (
        "the hinges are not squared, and either kind of pair is averaged over those that are not 0. Here: contrastive "
        "with form=linear."
    ),
    "TripletMarginLoss": (
        "distances are not squared, margin=0.05, and the mean is over the triplets that are not 0. Here: triplet_all."
    ),
    "MarginLoss": (
        "beta is fixed by default, with learn_beta one per class; all triplets are used without a miner. Here: "
        "margin_loss."
    ),
    "MultiSimilarityLoss": (
        "it mines only with miner: MultiSimilarityMiner; beta=50, where the authors' code has 40. Here: "
        "multi_similarity."
    ),
    "CircleLoss": "each anchor compares its own pairs; anchors with loss 0 are left out of the mean. Here: circle.",
    "SupConLoss": "a batch of one class gives 0; there is no factor T / 0.07. Here: supcon.",
    "NPairsLoss": (
        "embeddings are normalised without a temperature, so that the loss cannot fall far; the paper's form has "
        "distance: {name: DotProductSimilarity, normalize_embeddings: false}. Here: npair."
    ),
    "SmoothAPLoss": (
        "positives are mixed up unless a batch has as many classes as samples of each, and labels must be contiguous; "
        "the value is float32. Here: smooth_ap."
    ),
    "CrossBatchMemory": "how full its memory is, is not in the state, so that a loaded one starts to fill it anew.",
}
"""What a class does that its name does not tell, and the name of the same loss in this package."""

UNFIT = {
    "BaseMetricLossFunction": "it is not a loss but what losses are derived from",
    "BaseLossWrapper": "it is not a loss but what losses are derived from",
    "GenericPairLoss": "it is not a loss but what losses are derived from",
    "EmbeddingRegularizerMixin": "it is not a loss but what losses are derived from",
    "WeightRegularizerMixin": "it is not a loss but what losses are derived from",
    "BaseMiner": "it is not a miner but what miners are derived from",
    "BaseDistance": "it is not a distance but what distances are derived from",
    "BaseReducer": "it is not a reducer but what reducers are derived from",
    "BaseRegularizer": "it is not a regularizer but what regularizers are derived from",
    "DoNothingReducer": "it leaves parts, where a single number is needed",
    "MultipleReducers": "a recipe cannot say its reducers",
    "PerAnchorReducer": "a recipe cannot say its function",
    "BatchedDistance": "a recipe cannot say its function",
    "ManifoldLoss": "it takes no labels",
    "SelfSupervisedLoss": "it compares two views of each image and takes no labels",
    "VICRegLoss": "it compares two views of each image and takes no labels",
}
"""Why a class of the library cannot be used here."""
