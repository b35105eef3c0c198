"""The summariser extracts: real sentences of the real input, whatever the input is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import InvalidOption
from holdfast.testing import summarise
from holdfast.testing.extract import (
    MAX_SENTENCE_CHARS,
    count_tokens,
    key_sentences,
    token_pieces,
)

DOCS = """
Durable jobs
============

A worker takes a job under a lease. The lease is renewed by a heartbeat, e.g. every ten seconds.
If the worker is killed, the lease runs out and another worker resumes the job after its last
finished step.

It was a sunny day. Nobody minded.

- Steps are recorded in the database.
- A finished step is never run again by any worker
"""

LICENCE = """\
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS.

import os

def run(queue: str) -> None:
    \"\"\"Take one job from the queue and run the job to its end.\"\"\"
    limit: int = 1
    for job in take(
        queue,
        limit=limit,
    ):
        job.run(os.getpid())
"""

# No leaders, bullets, quotes or ideographs: nothing that the reader takes away from a line.
PROSE = st.text(alphabet="abcdefgh ABC xyz 12 ,.!?()'é\n\t", max_size=400)


def collapsed(text: str) -> str:
    return " ".join(text.split())


def test_the_telling_sentences_are_chosen_in_the_order_of_the_text() -> None:
    chosen = key_sentences(DOCS, sentences=3)
    assert len(chosen) == 3
    assert [DOCS.find(sentence[:12]) for sentence in chosen] == sorted(
        DOCS.find(sentence[:12]) for sentence in chosen
    )
    assert any("another worker resumes the job" in sentence for sentence in chosen)
    assert "It was a sunny day." not in chosen


def test_wrapped_lines_are_joined_and_abbreviations_do_not_end_a_sentence() -> None:
    chosen = key_sentences(DOCS, sentences=99)
    assert "The lease is renewed by a heartbeat, e.g. every ten seconds." in chosen
    assert any(sentence.endswith("after its last finished step.") for sentence in chosen)
    assert "A finished step is never run again by any worker" in chosen
    assert not any("===" in sentence for sentence in chosen)


def test_comment_leaders_and_docstring_quotes_are_left_out() -> None:
    chosen = key_sentences(LICENCE, sentences=99)
    assert (
        'Licensed under the Apache License, Version 2.0 (the "License"); '
        "you may not use this file except in compliance with the License." in chosen
    )
    assert "Take one job from the queue and run the job to its end." in chosen


def test_prose_is_preferred_to_code() -> None:
    summary = summarise(LICENCE, sentences=3)
    assert "License" in summary
    assert "os.getpid" not in summary


def test_another_text_has_another_summary() -> None:
    assert summarise(DOCS) != summarise(DOCS.replace("lease", "lock"))


def test_a_repeated_sentence_is_chosen_once() -> None:
    assert summarise("Jobs resume. Jobs resume. Jobs resume.") == "Jobs resume."


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("", ""),
        (" \n\t\n", ""),
        ("One sentence only", "One sentence only"),
        ("...", "..."),
        ("12 34. 56!", "12 34. 56!"),
        ("一つ目。二つ目。", "一つ目。 二つ目。"),
    ],
)
def test_small_texts_are_returned_as_they_are(text: str, summary: str) -> None:
    assert summarise(text) == summary


def test_fewer_than_one_sentence_is_refused() -> None:
    with pytest.raises(InvalidOption, match="sentences=0"):
        summarise("Text.", sentences=0)


@pytest.mark.parametrize(
    "text",
    [
        DOCS * 1500,
        "x" * 1_000_000,
        "." * 1_000_000,
        ".'" * 500_000,
        ' ."' * 333_333,
        " " * 1_000_000 + "x",
        "\n" * 1_000_000,
        "word " * 200_000,
        "a: b" + "[]" * 500_000 + "x",
        ("a: b" + "[] | c" * 60 + "x\n") * 2_500,
        "".join(f"The number {n} is told here. " for n in range(33_000)),
    ],
    ids=[
        "docs",
        "one word",
        "dots",
        "quotes",
        "spaced",
        "blanks",
        "lines",
        "words",
        "brackets",
        "code",
        "distinct",
    ],
)
def test_a_megabyte_is_summarised_in_linear_time(text: str) -> None:
    # A quadratic pass over a megabyte would take minutes: the suite's time is the assertion.
    assert len(summarise(text)) <= 3 * (MAX_SENTENCE_CHARS + 1)


def test_the_summary_does_not_depend_on_the_process() -> None:
    code = "import sys; from holdfast.testing import summarise; print(summarise(sys.argv[1]))"

    def run(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", code, DOCS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert run("1") == run("2") == summarise(DOCS)


@given(text=PROSE, sentences=st.integers(1, 6))
def test_every_sentence_is_a_substring_of_the_input(text: str, sentences: int) -> None:
    chosen = key_sentences(text, sentences=sentences)
    assert len(chosen) <= sentences
    position = 0
    for sentence in chosen:
        position = collapsed(text).index(sentence, position) + len(sentence)
    assert summarise(text, sentences=sentences) == " ".join(chosen)


@settings(max_examples=300)
@given(text=st.text(max_size=300), sentences=st.integers(1, 6))
def test_any_text_is_summarised_with_words_of_its_own(text: str, sentences: int) -> None:
    summary = summarise(text, sentences=sentences)
    assert bool(summary) == bool(text.split())
    assert all(word in text for word in summary.split())
    assert summary == summarise(text, sentences=sentences)


@given(text=st.text(max_size=300))
def test_tokens_are_counted_as_they_are_cut(text: str) -> None:
    pieces = token_pieces(text)
    assert len(pieces) == count_tokens(text)
    assert text.startswith("".join(pieces))
    assert not text[len("".join(pieces)) :].strip()


def test_a_token_is_about_four_characters() -> None:
    assert 3.0 < len(collapsed(DOCS)) / count_tokens(DOCS) < 6.0
