"""The annealing of multiplicative margins: how much of the plain cosine is mixed in, by optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from jaxtyping import Float, Int
from pydantic import BaseModel, BeforeValidator, ConfigDict
from torch import Tensor

from dml_bench.errors import OptionError, Problem
from dml_bench.registry import NonNegative, suggestion


class Annealing(BaseModel):
    """``lambda_t = max(minimum, base (1 + gamma t)^(-power))`` in the t-th step, t = 1, 2, ...

    Source: Liu et al., SphereFace, CVPR 2017, whose code has base=1000, gamma=0.12, power=1, minimum=5; for L-Softmax
        (ICML 2016) their code has gamma=2.5e-5, power=35, minimum=0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    base: NonNegative = 1000.0
    gamma: NonNegative = 0.12
    power: NonNegative = 1.0
    minimum: NonNegative = 5.0

    def at(self, steps: Int[Tensor, ""]) -> Float[Tensor, ""]:
        """Return lambda in the step that follows ``steps`` finished ones, in float64 and without leaving the device."""
        t = steps.double() + 1  # the authors' code counts the step before it uses the count
        return (self.base * (1 + self.gamma * t) ** -self.power).clamp(min=self.minimum)


def _read(value: Any) -> Any:
    """Take a bare number for a lambda that never changes, and refuse unknown options with a suggestion."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"base": 0.0, "minimum": value}
    known = Annealing.model_fields
    unknown = [name for name in value if name not in known] if isinstance(value, Mapping) else []
    if unknown:
        takes = f"it takes {', '.join(known)}, or a number instead of all"
        raise OptionError([Problem((n,), f"no such option{suggestion(str(n), known)}; {takes}") for n in unknown])
    return value


Schedule = Annotated[Annealing, BeforeValidator(_read)]
"""An annealing as a recipe writes it: some of base, gamma, power and minimum, or a number for a fixed lambda."""
