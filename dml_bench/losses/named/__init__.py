"""The published softmax and proxy losses by name, each a choice of slots; every module registers its own.

In the formulas x is an embedding, y its label, w_j the center of class j and w_jk the k-th of them; ^ marks unit
length, cos_j = x^ . w_j^ = cos(theta_j). ell(z, y) = -log( exp(z_y) / sum_j exp(z_j) ); loss is the mean over a batch.
"""

from dml_bench.losses.named import freeform, margins, proxies, reweighted, softmax

__all__ = ["freeform", "margins", "proxies", "reweighted", "softmax"]
