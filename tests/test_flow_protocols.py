"""From files to a record: what of the data makes another protocol, and what a record says of a subset."""

import io

import pytest
from PIL import Image

import dml_bench
from dml_bench import splits
from dml_bench.data import cub200
from dml_bench.errors import ResultsError
from dml_bench.flow import VOCABULARY, execute
from dml_bench.recipe.reader import read_recipe

SPECIES = [f"{number:03d}.Bird_{number}" for number in range(1, 9)]
PATHS = [f"{name}/{name}_{i}.png" for name in SPECIES for i in range(4)]


@pytest.fixture
def birds(tmp_path, monkeypatch):
    """Eight species of four images, whole by the official count."""
    monkeypatch.setattr(cub200, "OFFICIAL", (32, 8))
    top = tmp_path / "CUB_200_2011"
    for i, path in enumerate(PATHS):
        data = io.BytesIO()
        Image.linear_gradient("L").resize((24, 24)).rotate(11 * i).convert("RGB").save(data, format="PNG")
        (top / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (top / "images" / path).write_bytes(data.getvalue())
    lists = {
        "images": PATHS,
        "image_class_labels": [1 + i // 4 for i in range(32)],
        "classes": SPECIES,
        "bounding_boxes": ["4.0 4.0 12.0 12.0"] * 32,
    }
    for name, values in lists.items():
        (top / f"{name}.txt").write_text("".join(f"{i} {value}\n" for i, value in enumerate(values, start=1)))
    return top


def record(birds, runs, subset=(), **options):
    document = {
        "dataset": {"name": "cub200", "image_size": 16, **options},
        "data_root": str(birds.parent),
        "subset": list(subset),
        "backbone": {"name": "convnet", "width": 4},
        "loss": None,
        "references": False,
        "evaluation": {"metrics": ["recall@1"]},
    }
    (run,) = read_recipe(document, VOCABULARY)
    splits._load.cache_clear()  # a process keeps the last data set it loaded
    done = execute(run, birds.parent / runs)
    assert done.status == "ok", done.reason
    return done


def test_each_of_these_is_another_protocol(birds):
    whole = record(birds, "whole")
    assert record(birds, "again").protocol_id == whole.protocol_id
    assert record(birds, "partial allowed", partial=True).protocol_id == whole.protocol_id  # it is whole all the same
    others = [record(birds, "boxes", boxes=True), record(birds, "size", resize=18)]

    labels = birds / "image_class_labels.txt"
    text = labels.read_text()
    labels.write_text(text.replace("\n20 5\n", "\n20 6\n"))  # one image of the test species
    others.append(record(birds, "relabelled"))
    labels.write_text(text.replace("\n4 1\n", "\n4 2\n"))  # one to train on
    others.append(record(birds, "relabelled in training"))
    labels.write_text(text)
    assert record(birds, "as before").protocol_id == whole.protocol_id

    picture = birds / "images" / PATHS[-1]
    content = picture.read_bytes()
    picture.write_bytes((birds / "images" / PATHS[0]).read_bytes())
    others.append(record(birds, "another picture"))
    picture.write_bytes(content)

    (birds / "images" / PATHS[7]).unlink()
    others.append(record(birds, "partial", partial=True))
    ids = [whole.protocol_id, *(other.protocol_id for other in others)]
    assert len(set(ids)) == len(ids)


def test_a_record_says_what_a_subset_left(birds):
    plain = record(birds, "plain")
    assert plain.data["train"] == {"images": 16, "classes": 4}
    few = record(
        birds, "few", [{"name": "few_shot", "images_per_class": 3}, {"name": "class_fraction", "fraction": 0.5}]
    )
    assert few.data["train"] == {"images": 6, "classes": 2}
    assert few.data["test"] == plain.data["test"] == {"images": 16, "classes": 4}
    noisy = record(birds, "noisy", [{"name": "label_noise", "rate": 0.25}])
    assert noisy.data["train"] == plain.data["train"]
    assert len({r.protocol_id for r in (plain, few, noisy)}) == 3
    assert len({r.recipe_id for r in (plain, few, noisy)}) == 3


def test_data_that_change_between_two_calls_in_one_process_are_noticed(birds):
    recipe = {
        "dataset": {"name": "cub200", "image_size": 16},
        "data_root": str(birds.parent),
        "loss": None,
        "references": False,
        "evaluation": {"metrics": ["recall@1"]},
    }
    (before,) = dml_bench.run(recipe, out=birds.parent / "runs")
    labels = birds / "image_class_labels.txt"
    labels.write_text(labels.read_text().replace("\n32 8\n", "\n32 7\n"))
    with pytest.raises(ResultsError, match="was made from other data"):
        dml_bench.run(recipe, out=birds.parent / "runs")
    (after,) = dml_bench.run(recipe, out=birds.parent / "anew")
    assert after.protocol_id != before.protocol_id and after.recipe_id == before.recipe_id
