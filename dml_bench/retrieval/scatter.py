"""The scatter of runs with two dimensions, which takes both their networks and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dml_bench.results.record import RunRecord


def scatter_figure(records: Sequence[RunRecord], data_root: Path | None = None) -> Figure | None:
    """Draw the scatter of the runs with embeddings of two dimensions, one panel per recipe; None if there are none.

    Of each recipe the first seed that finished is shown; references are not, as they learned nothing of the classes.

    Raises:
        ResultsError: if a run's weights are not there, or the runs are of more than one data set and protocol.
        DataError: if the data is not there any more.
    """
    from dml_bench.errors import ResultsError
    from dml_bench.reports.plots.scatter import Scatter, scatter
    from dml_bench.reports.style import LOSS_ORDER
    from dml_bench.reports.summary import natural, sections
    from dml_bench.runners.plane import features_2d

    found = sections([run for run in records if run.embedding_dim == 2 and run.status == "ok" and run.folder])
    runs = [row.runs[0] for section in found for row in section.rows if not row.is_reference]
    if not runs:
        return None
    if len(found) > 1:
        several = ", ".join(f"{section.dataset} (protocol {section.protocol_id})" for section in found)
        raise ResultsError(f"a scatter shows runs of one data set and protocol, not of {several}")
    names = {run.run_id: _name(run, runs) for run in runs}
    place = {loss: i for i, loss in enumerate(LOSS_ORDER)}
    runs.sort(key=lambda run: (place.get(run.loss, len(place)), natural(names[run.run_id])))
    panels = [Scatter(names[run.run_id], *features_2d(run.folder, data_root)) for run in runs if run.folder]
    return scatter(panels, f"{found[0].dataset}, protocol {found[0].protocol_id}")


def _name(run: RunRecord, runs: Sequence[RunRecord]) -> str:
    """Name a run by its loss and what tells it from the others: a margin is named even where it is the default."""
    from dml_bench.reports.options import options_text

    alike = [_loss(other) for other in runs if other.loss == run.loss]
    telling = {name: value for name, value in _loss(run).items() if any(other.get(name) != value for other in alike)}
    axes = {name: value for name, value in run.options.items() if "." in name}
    return "  ".join(filter(None, (run.loss, options_text({**telling, **axes}))))


def _loss(run: RunRecord) -> Mapping[str, Any]:
    return run.recipe.get("loss") or {}
