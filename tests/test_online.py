"""Runs on a Weights & Biases server, read from one that answers as theirs does."""

import json

import pytest
import wandb
import wandb_server

from clearmark import runs
from clearmark.errors import UserError

NAME = "data.crop=64,model.widths=[4,8],optimizer.lr=0.001,~callbacks.ema=null"


def answers(states, picture):
    """As of a project with a run in each of these states, whose pictures have such an address."""
    runs = [
        {
            "projectId": "7",
            "id": f"x{at}",
            "name": f"id{at}",
            "displayName": NAME if at == 0 else "a name of mine",
            "state": state,
            "config": json.dumps({"model": {"value": {"scale": 4}}}),
            "summaryMetrics": json.dumps({"test/psnr_gain": 2.5, "_step": 9, "a": {"b": 1}}),
            "historyLineCount": 2,
            "user": {"name": "me", "username": "me"},
        }
        for at, state in enumerate(states)
    ]
    last = {"endCursor": None, "hasNextPage": False}
    history = [
        {"_step": 0, "trainer/global_step": 49, "train/loss": 0.5},
        {"_step": 1, "trainer/global_step": 99, "train/loss": "NaN", "val/psnr": 30},
    ]
    names = ["media/images/test/panel_3_ab.png", "media/images/test/../../x.png"]
    files = [{"id": "f", "name": name, "url": picture, "sizeBytes": "9"} for name in names]
    listed = {"edges": [{"node": file, "cursor": ""} for file in files], "pageInfo": last}
    found = {"edges": [{"node": run, "cursor": ""} for run in runs], "pageInfo": last}
    return {
        "Runs": {"project": {"internalId": "7", "runCount": len(runs), "runs": found}},
        "RunFullHistory": {"project": {"run": {"history": list(map(json.dumps, history))}}},
        "RunFiles": {"project": {"internalId": "7", "run": {"fileCount": 2, "files": listed}}},
    }


def test_runs_of_a_server_are_as_those_on_disk(tmp_path, monkeypatch):
    wandb.setup()  # a process that stays where it began
    monkeypatch.chdir(tmp_path)
    picture = b"a picture"
    queries = {}
    with wandb_server.server(queries, {"/f.png": picture}) as (address, *_):
        queries.update(answers(["finished", "running", "crashed"], f"{address}/f.png"))
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_MODE", "online")
        table = runs.load("wandb://me/p")
    wandb.teardown()
    assert list(table.index) == ["wandb://me/p/id0", "wandb://me/p/id2"]
    set_by_name = ["data.crop", "model.widths", "optimizer.lr", "callbacks.ema", "name"]
    assert table.attrs["commands"] == set_by_name
    row = table.iloc[0]
    assert [row[key] for key in set_by_name[:4]] == [64, "[4, 8]", 0.001, "(removed)"]
    assert table.name.iloc[1] == "a name of mine"
    assert row["test/psnr_gain"] == 2.5
    assert row.curves.step.to_list() == [49, 99]
    assert row.curves["train/loss"].fillna(-1).to_list() == [0.5, -1]
    assert row.config == {"model.scale": 4}
    assert table.failed.to_list() == ["", "crashed"]
    (path,) = row.panels
    assert path.read_bytes() == picture
    assert path.is_relative_to("wandb/online/me/p/id0")


@pytest.mark.parametrize("project", ["p", "me/p/x", "me/", "a b/c"])
def test_what_is_no_project_is_refused(project):
    with pytest.raises(UserError, match="give wandb://ENTITY/PROJECT"):
        runs.load(f"wandb://{project}")


def test_a_project_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with wandb_server.server({"Runs": {"project": None}}) as (address, *_):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        with pytest.raises(
            UserError, match="wandb://me/none: Could not find project none"
        ) as caught:
            runs.load("wandb://me/none")
    wandb.teardown()
    assert "\n" not in str(caught.value)
