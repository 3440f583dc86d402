"""A training that is stopped anywhere goes on to the same digits, and damaged files are never gone on with."""

import copy
import hashlib
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.losses import LOSSES
from dml_bench.training.checkpoint import Checkpoints
from dml_bench.training.selection import Keeper, Selection

OWNER = {"run": "0123456789ab-s0", "data": "d"}
PIXELS = {"name": "pixels", "size": 3}


class StopError(Exception):
    pass


def stop_after(steps):
    """An ear that ends training when it has heard of ``steps`` steps."""
    heard = []

    def hear(step):
        heard.append(step)
        if len(heard) == steps:
            raise StopError

    return hear


def resumed(small, folder, stop, every, build, hear=None, **changes):
    """Fit with a stop after ``stop`` batches, then from what is in the folder; return model, loss, curve and steps."""
    with pytest.raises(StopError):
        checkpoints = Checkpoints(folder, OWNER, every)
        small.fit(*build(), hear={"on_step": stop_after(stop), "checkpoints": checkpoints, **(hear or {})}, **changes)
    seen = []
    checkpoints = Checkpoints(folder, OWNER, every)
    model, loss, curve = small.fit(
        *build(), hear={"on_step": seen.append, "checkpoints": checkpoints, **(hear or {})}, **changes
    )
    return model, loss, curve, len(seen)


def same(curve, other):
    return [(e.epoch, e.loss, e.learning_rate) for e in curve] == [(e.epoch, e.loss, e.learning_rate) for e in other]


@pytest.mark.parametrize("key", [entry.name for entry in LOSSES])
def test_every_loss_goes_on_to_the_same_digits(small, flat, tmp_path, key):
    def build():
        drops = {"name": "convnet", "width": 4, "dropout": 0.2} if key == "uncertainty_softmax" else PIXELS
        model = small.model(drops)
        return model, small.loss(key, class_counts=torch.tensor([10] * 4))

    sampler = {"name": "pxk", "classes_per_batch": 2, "images_per_class": 2}
    changes = {"optimizer": {"name": "adamw", "lr": 0.01}, "sampler": sampler}
    whole = small.fit(*build(), **changes)
    *halves, curve, steps = resumed(small, tmp_path, 13, 3, build, **changes)
    assert torch.equal(flat(*halves), flat(*whole[:2]))
    assert same(curve, whole[2])
    assert steps == 20 - 12


SETTINGS = {
    "momentum": {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}},
    "rmsprop": {"optimizer": {"name": "rmsprop", "lr": 0.01}},
    "ema": {"ema": 0.9},
    "accumulate": {"accumulate": 3},
    "chunk": {"chunk": 2},
    "clip": {"clip_norm": 0.1, "clip_value": 0.05},
    "head first": {"head_epochs": 1, "optimizer": {"name": "adam", "lr": 0.01}},
    "cosine": {"schedule": {"name": "cosine"}, "warmup_epochs": 1.5},
    "augmentation": {"augmentation": {"flip": True, "rotation": 20.0}},
    "colors": {"augmentation": {"brightness": 0.3, "blur": 0.5}},
    "crops": {"augmentation": {"crop": "resized"}},
    "steps": {"steps": 17, "epochs": None},
    "frozen": {"freeze": ["batch_norm"]},
    "half": {"precision": "bf16"},
    "adaptive": {"sampler": {"name": "adaptive", "batch_size": 4}},
    "neighbors": {"sampler": {"name": "class_neighbors", "anchors": 1, "classes_per_anchor": 2, "images_per_class": 2}},
}


@pytest.mark.parametrize("stop", [1, 7, 14], ids="stop {}".format)
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_goes_on_to_the_same_digits(small, flat, tmp_path, name, stop):
    changes = SETTINGS[name]

    def build():
        model = small.model({"name": "convnet", "width": 4, "dropout": 0.1})
        return (model.float(), small.loss().float()) if name == "half" else (model, small.loss())

    whole = small.fit(*build(), **changes)
    *halves, curve, _ = resumed(small, tmp_path, stop, 1, build, **changes)
    assert torch.equal(flat(*halves), flat(*whole[:2]))
    assert same(curve, whole[2])


def test_selection_and_plateau_go_on(small, flat, tmp_path):
    """What a network is worth is made up: it rises and falls with the epochs."""
    worth = [0.1, 0.5, 0.4, 0.3, 0.6, 0.2]

    def fit(checkpoints, stop=10**6):
        model, loss = small.model(PIXELS), small.loss()
        told = []
        keeper = Keeper(Selection("m", patience=3), (model, loss), lambda: worth[keeper.epoch - 1])
        if checkpoints:
            checkpoints.parts["keeper"] = keeper

        def after(result):
            told.append(result)
            keeper.after(result.epoch)
            return keeper.is_out_of_patience

        how = {"on_epoch": after, "validation": keeper.latest, "checkpoints": checkpoints, "on_step": stop_after(stop)}
        curve = small.fit(model, loss, epochs=6, schedule={"name": "plateau", "patience": 0, "gamma": 0.5}, hear=how)[2]
        keeper.finish()
        return model, loss, curve, keeper.best_epoch

    whole = fit(None)
    with pytest.raises(StopError):
        fit(Checkpoints(tmp_path, OWNER, 4), 44)
    halves = fit(Checkpoints(tmp_path, OWNER, 4))
    assert torch.equal(flat(*halves[:2]), flat(*whole[:2]))
    assert same(halves[2], whole[2])
    assert halves[3] == whole[3] == 5
    assert halves[2][-1].learning_rate < halves[2][0].learning_rate


def test_a_finished_training_is_not_repeated(small, flat, tmp_path):
    whole = small.fit(hear={"checkpoints": Checkpoints(tmp_path, OWNER, 7)})
    seen = []
    again = small.fit(hear={"checkpoints": Checkpoints(tmp_path, OWNER, 7), "on_step": seen.append})
    assert seen == []
    assert torch.equal(flat(*again[:2]), flat(*whole[:2]))


def test_checkpoints_change_nothing(small, flat, tmp_path):
    whole, saved = small.fit(), small.fit(hear={"checkpoints": Checkpoints(tmp_path, OWNER)})
    assert torch.equal(flat(*whole[:2]), flat(*saved[:2]))
    assert 1 <= len(list(tmp_path.iterdir())) <= 2


class Box:
    """Something with a state."""

    def __init__(self, value=None):
        self.value = value

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = copy.deepcopy(state["value"])


def saved(folder, *steps):
    box = Box()
    checkpoints = Checkpoints(folder, OWNER, 1, {"box": box})
    for step in steps:
        box.value = torch.full((50,), float(step))
        checkpoints.save(step, {"step": step})


def restored(folder, owner=OWNER):
    box, notes, steps = Box(), [], []
    checkpoints = Checkpoints(folder, owner, 1, {"box": box}, notes.append, on_restored=steps.append)
    state = checkpoints.restore()
    if state is not None:
        assert torch.equal(box.value, torch.full((50,), float(state["step"])))
        assert steps == [state["step"]]
    return state and state["step"], notes


def files(folder):
    return sorted(folder.glob("checkpoint-*.pt"), key=lambda path: int(path.name.split("-")[1]))


def test_the_last_two_stay_and_the_newest_is_used(tmp_path):
    saved(tmp_path, 3, 9, 10, 100)
    assert [path.name.split("-")[1] for path in files(tmp_path)] == ["10", "100"]
    assert restored(tmp_path) == (100, [])
    for path in files(tmp_path):
        assert torch.load(path, weights_only=True)["owner"] == OWNER


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_seen_and_the_one_before_is_used(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    saved(folder, 1, 2)
    newest = files(folder)[-1]
    content = bytearray(newest.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans(), label="torn"):
        content = content[:where]
    else:
        content[where] ^= 1 << data.draw(st.integers(0, 7))
    newest.write_bytes(content)
    step, notes = restored(folder)
    assert step == 1
    assert notes == [f"warning: {newest.name} is damaged and is passed over"]


def test_without_a_good_one_training_begins_anew(tmp_path):
    saved(tmp_path, 1, 2)
    for path in files(tmp_path):
        path.write_bytes(b"")
    step, notes = restored(tmp_path)
    assert step is None
    assert len(notes) == 2
    assert restored(tmp_path / "..") == (None, [])


def test_a_new_one_stays_beside_damaged_ones_of_more_steps(tmp_path):
    saved(tmp_path, 5, 90, 100)
    for path in files(tmp_path):
        path.write_bytes(b"torn")
    checkpoints = Checkpoints(tmp_path, OWNER, 1, {"box": Box()})
    assert checkpoints.restore() is None
    saved(tmp_path, 10)
    assert restored(tmp_path)[0] == 10


def test_the_good_one_that_was_gone_on_from_stays_until_two_are_newer(tmp_path):
    saved(tmp_path, 50, 100)
    files(tmp_path)[-1].write_bytes(b"torn")
    box = Box()
    checkpoints = Checkpoints(tmp_path, OWNER, 1, {"box": box})
    assert checkpoints.restore() == {"step": 50}
    for step, left in ((60, ["50", "60"]), (70, ["60", "70"])):
        checkpoints.save(step, {"step": step})
        assert [path.name.split("-")[1] for path in files(tmp_path)] == left


@pytest.mark.parametrize("part", ["run", "data"])
def test_the_checkpoint_of_another_run_is_left_out(tmp_path, part):
    saved(tmp_path, 5)
    step, notes = restored(tmp_path, {**OWNER, part: "other"})
    assert step is None
    assert "other" in notes[0]


@pytest.mark.parametrize(
    "content", [b"no zip", {"owner": OWNER}, {"owner": OWNER, "steps": 9, "training": {}, "parts": {}}]
)
def test_a_file_of_something_else_is_passed_over(tmp_path, content):
    saved(tmp_path, 5)
    stream = io.BytesIO(content if isinstance(content, bytes) else b"")
    if not isinstance(content, bytes):
        torch.save(content, stream)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()[:16]
    (tmp_path / f"checkpoint-9-{digest}.pt").write_bytes(stream.getvalue())
    step, notes = restored(tmp_path)
    assert step == 5
    assert notes == [f"warning: checkpoint-9-{digest}.pt is no checkpoint of this version and is passed over"]


def test_half_a_file_under_another_name_is_no_checkpoint(tmp_path):
    saved(tmp_path, 5)
    (tmp_path / f".{files(tmp_path)[0].name}.123.part").write_bytes(b"half")
    (tmp_path / "checkpoint.pt").write_bytes(b"published weights")
    assert restored(tmp_path) == (5, [])


def test_a_full_disk_harms_no_earlier_checkpoint(tmp_path, monkeypatch):
    saved(tmp_path, 5)

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            saved(tmp_path, 6)
    assert [path.name[:12] for path in tmp_path.iterdir()] == ["checkpoint-5"]
    assert restored(tmp_path) == (5, [])
