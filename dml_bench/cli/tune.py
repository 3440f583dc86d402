"""Search the settings of losses, fairly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from dml_bench.cli.app import Changes, app, terminal


@app.command(epilog="Example: dml-bench tune my_recipe.yaml --trials 50, then dml-bench run tuning/NAME/best/LOSS.yaml")
def tune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe with a space to search.")],
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Settings tried for each loss, the same for all.")],
    changes: Changes = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the studies.  [default: tuning/<recipe name>]")] = None,
    folds: Annotated[
        int | None, typer.Option(min=1, help="Parts of the training classes held out in turn.  [default: all]")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What decides.  [default: the recipe's selection.metric, else map@r]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the data sets.")] = None,
) -> None:
    """Search the settings of each loss on held-out training classes; the test classes are never looked at.

    What is searched stands in the recipe: space: {loss.scale: {low: 8, high: 64, log: true}}. The same command goes on
    where it was stopped. Writes trials.csv, and the best settings as best/LOSS.yaml, for dml-bench run.
    """
    import json

    from dml_bench.runners.plan import choose_device
    from dml_bench.runners.studies import Trial
    from dml_bench.runners.tuning import prepare
    from dml_bench.runners.tuning import tune as search

    console = terminal()
    sets = [*(changes or ()), *([f"data_root={json.dumps(str(data_root))}"] if data_root else [])]
    where = choose_device(device)
    tuning = prepare(recipe, trials, out=out, changes=sets, metric=metric, folds=folds, device=where)
    names = ", ".join(study.name for study in tuning.studies)
    rule = tuning.rule
    judged = f"by {rule.metric} on {rule.folds} of {rule.parts} folds"
    note = f"{trials} trials for each of {names}, {judged}, in {tuning.folder}"
    console.print(note, markup=False, highlight=False, soft_wrap=True)

    def tell(trial: Trial) -> None:
        settings = " ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
        value = trial.reason if math.isnan(trial.value) else f"{rule.metric} {100 * trial.value:.2f}"
        line = f"{trial.study} {trial.number}/{trials}: {settings}: {value} ({trial.seconds:.1f} s)"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    found = search(tuning, tell)
    for study in tuning.studies:
        best = max((t for t in found if t.study == study.name), key=lambda t: -1.0 if math.isnan(t.value) else t.value)
        if math.isnan(best.value):
            console.print(f"{study.name}: no setting could be trained", markup=False, highlight=False)
            continue
        file = tuning.folder / "best" / f"{study.name}.yaml"
        line = f"{study.name}: best {rule.metric} {100 * best.value:.2f} in trial {best.number}: {file}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
