"""`holdfast enqueue`: what is stored, how values are read, what is refused."""

import json

import pytest


def stored(db) -> dict:
    """The arguments of the only job there is."""
    return db.value("SELECT args FROM holdfast.jobs")


def test_it_prints_the_id_of_the_job_it_stored(holdfast, tasks, db) -> None:
    ran = holdfast("enqueue", tasks, "add", "a=1", "b=2")
    assert (ran.code, ran.out) == (0, "1\n")
    assert stored(db) == {"a": 1, "b": 2}


def test_with_json_it_prints_the_job_and_nothing_that_the_module_printed(holdfast, tasks) -> None:
    ran = holdfast("enqueue", tasks, "add", "a=1", "--json")
    assert ran.document["name"] == "add"
    assert ran.document["args"] == {"a": 1}
    assert "imported: must not mix" in ran.err


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("123", "123"),
        ("true", "true"),
        ('{"a": 1}', '{"a": 1}'),
        ("plain words = here", "plain words = here"),
        ('"quoted"', "quoted"),
        ("", ""),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_parameter_that_is_a_string_gets_the_text(holdfast, tasks, db, text, kept) -> None:
    assert holdfast("enqueue", tasks, "echo", f"text={text}").code == 0
    assert stored(db)["text"] == kept


def test_each_value_is_read_as_its_own_parameter_wants_it(holdfast, tasks, db) -> None:
    ran = holdfast("enqueue", tasks, "echo", "text=123", "anything=[1, null]")
    assert ran.code == 0
    assert stored(db) == {"text": "123", "anything": [1, None]}


def test_models_and_floats_are_given_as_json(holdfast, tasks, db) -> None:
    ran = holdfast("enqueue", tasks, "move", 'point={"x": 1}', "by=2.5")
    assert ran.code == 0
    assert stored(db) == {"point": {"x": 1, "label": ""}, "by": 2.5}


def test_positional_only_and_variable_parameters_are_given_by_name(holdfast, tasks, db) -> None:
    ran = holdfast("enqueue", tasks, "spread", "first=1", "rest=[2, 3]", "zip=80331")
    assert ran.code == 0, ran.err
    assert stored(db) == {"first": 1, "rest": [2, 3], "named": {"zip": "80331"}}


def test_all_arguments_can_be_one_json_object(holdfast, tasks, db) -> None:
    given = json.dumps({"a": 5})
    assert holdfast("enqueue", tasks, "add", "b=6", "--args", given).code == 0
    assert stored(db) == {"a": 5, "b": 6}


def test_every_option_reaches_the_row(holdfast, tasks, db) -> None:
    ran = holdfast(
        "enqueue", tasks, "add", "a=1", "--at", "2090-01-31T09:00+01:00", "--queue", "other",
        "--priority", "3", "--max-attempts", "7", "--tag", "x", "--tag", "y",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    row = db.execute(
        "SELECT queue, priority, max_attempts, tags, run_at AT TIME ZONE 'UTC' FROM holdfast.job"
    )[0]
    assert row[:4] == ("other", 3, 7, ["x", "y"])
    assert row[4].isoformat() == "2090-01-31T08:00:00"


def test_a_unique_job_that_is_there_already_is_said_and_its_id_printed(holdfast, tasks, db) -> None:
    first = holdfast("enqueue", tasks, "add", "a=1", "--unique", "once")
    again = holdfast("enqueue", tasks, "add", "a=2", "--unique", "once")
    assert (first.out, again.out, again.code) == ("1\n", "1\n", 0)
    assert "there already" not in first.err
    assert "a unique job was there already: 1, left as it was" in again.err
    assert stored(db) == {"a": 1}


def test_in_delays_by_a_duration(holdfast, tasks, db) -> None:
    assert holdfast("enqueue", tasks, "add", "a=1", "--in", "5m").code == 0
    assert db.value("SELECT extract(epoch FROM run_at - created_at)::int FROM holdfast.job") == 300


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["ad", "a=1"], ["unknown job 'ad'", "Did you mean 'add'?", "code: HF-102"]),
        (["add"], ["argument 'a'", "Its signature is add(a: int, b: int = 0)", "HF-104"]),
        (["add", "a=x"], ["argument 'a'", "integer"]),
        (["add", "a=1", "c=2"], ["argument 'c'", "signature"]),
        (["move", 'point={"x": "no"}', "by=1"], ["argument 'point.x'"]),
        (["add", "1"], ["'1' is not key=value", "hint: "]),
        (["add", "a=1", "a=2"], ["'a' is given twice"]),
        (["add", "a=1", "--args", '{"a": 2}'], ["'a' is given twice, in --args"]),
        (["add", "--args", "[1]"], ["is not a JSON object"]),
        (["add", "a=1", "--in", "5 parsecs"], ["--in='5 parsecs'", "unknown unit"]),
        (["add", "a=1", "--at", "2090-01-31T09:00"], ["no offset from UTC"]),
        (["add", "a=1", "--at", "tomorrow"], ["is not a time", "2030-01-31T09:00+01:00"]),
        (["add", "a=1", "--in", "1", "--at", "2090-01-31T09:00Z"], ["both given"]),
        (["add", "a=1", "--priority", "10"], ["--priority"]),
        (["add", "a=1", "--queue", " x"], ["--queue=' x'", "space"]),
        (["add", "a=1", "--priorty", "1"], ["no option '--priorty'", "Did you mean '--priority'?"]),
    ],
)
def test_wrong_use_is_explained_and_stores_nothing(holdfast, tasks, db, args, said) -> None:
    ran = holdfast("enqueue", tasks, *args)
    assert ran.code == 2
    assert ran.out == ""
    assert "error: " in ran.err and "Traceback" not in ran.err
    for words in said:
        assert words in ran.err
    assert db.value("SELECT count(*) FROM holdfast.job") == 0


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_module:app", "there is no module 'no_such_module'"),
        ("cli_tasks.py:ap", "did you mean cli_tasks:app?"),
    ],
)
def test_a_target_that_is_not_there_is_explained(holdfast, tasks, target, said) -> None:
    place = tasks.parent / target if target.startswith("cli") else target
    ran = holdfast("enqueue", place, "add")
    assert ran.code == 2
    assert said in ran.err and "Traceback" not in ran.err


def test_a_module_that_raises_shows_where_in_its_own_code(holdfast, tmp_path) -> None:
    path = tmp_path / "cli_broken.py"
    path.write_text("import sys\n\n1 / 0\n")
    ran = holdfast("enqueue", path, "add")
    assert ran.code == 2
    assert "cannot be imported: ZeroDivisionError: division by zero" in ran.err
    assert 'cli_broken.py", line 3' in ran.err
