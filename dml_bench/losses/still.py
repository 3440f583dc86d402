"""Whether the centers of a loss moved while it was trained."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

TURN = 1e-4
"""A center that turned by less, as a distance on the unit sphere, stood still: weight decay and rounding turn none."""


def centers_of(loss: nn.Module) -> Float[Tensor, "n D"] | None:
    """Return a copy of the loss's centers, one a row, on the CPU; None if it has none."""
    centers = getattr(loss, "centers", None)
    if not isinstance(centers, Tensor) or centers.ndim < 2:
        return None
    return centers.detach().flatten(0, -2).float().cpu().clone()


def still_centers(before: Float[Tensor, "n D"] | None, loss: nn.Module) -> dict[str, int]:
    """Count the ``centers`` of a loss, and those among them whose direction is what it was: ``centers_still``.

    Args:
        before: what ``centers_of`` returned before training.
        loss: the same one after it; a loss without centers, or one whose centers come and go, has no counts.
    """
    after = centers_of(loss)
    if before is None or after is None or before.shape != after.shape:
        return {}
    turned = (nn.functional.normalize(after) - nn.functional.normalize(before)).norm(dim=1)
    still = turned < TURN if after.shape[1] > 1 else (after == before)[:, 0]  # on a line there is nothing to turn
    return {"centers": len(after), "centers_still": int(still.sum())}
