"""A deterministic extractive summariser: it picks sentences, it never writes any.

The text is cut into blocks (paragraphs, list items, runs of comment lines, single lines of code),
blocks into sentences. A term weighs tf × idf over the sentences of this very text; a sentence
weighs the sum of its terms, normalised by its length, a little more near the beginning of the text
and much less when it looks like code. Every pass is linear in the length of the text.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.errors import InvalidOption

MAX_SENTENCE_CHARS = 400

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]{1,4}")
_TERM = re.compile(r"[^\W\d_]{2,}")
# The look-behind keeps the search linear: "....…" must not be scanned again from each dot.
_SENTENCE_END = re.compile(r"""(?<=[.!?])["')\]]*[ ]|(?<=[。！？])""")
_COMMENT = re.compile(r"(#+|//+|/\*+|--|>|;+|%+)(?:\s+|$)")
_BULLET = re.compile(r"(?:[-+•*]|[├└]─+|\d{1,3}[.)])\s+")
# Tried on lines of bounded length only: some alternatives backtrack.
_CODE = re.compile(
    r"""(?:async\ def|def|class)\ \w+.*[:(]$ | @\w
    | import\ [\w.,\ ]+$ | from\ [\w.]+\ import\b
    | (?:if|elif|for|while|with|try|except|else|finally|match|case|async)\b.*:$
    | (?:return|assert)\b.*[(\[{_"'] | (?:raise|yield|await)\b
    | [\w.]+(?:\[[^\]]*\])?(?::\ [^=]+)?\ [-+*/|&:]?=\   # an assignment
    | \w+:\ [\w.]+(?:\[.*\])?(?:\ \|\ \w+)*,?$           # a field or a parameter
    | [\w.]+\(.*\)$ | .*\w\.\w+\(                        # a call
    | [)\]}] | [\w.*]+,$ | .*[(\[{]$                     # a part of one
    """,
    re.VERBOSE,
)
_CODE_SYMBOLS = "=(){}[];<>|\\"
_CODE_SYMBOL_SHARE = 0.08

_ABBREVIATIONS = (
    "e.g. i.e. etc. vs. cf. mr. mrs. ms. dr. prof. st. inc. ltd. co. corp. no. fig. sec. al. "
    "approx. u.s. v. p. pp. ed. vol. a.k.a."
)
_STOP_WORDS = (
    "a about above after again all also am an and any are as at be because been before being "
    "below between both but by can cannot could did do does doing down during each few for from "
    "further had has have having he her here hers him his how if in into is it its itself just "
    "may me might more most must my no nor not now of off on once one only or other our out over "
    "own same shall she should so some such than that the their them then there these they this "
    "those through to too two under until up upon us use used using very was we were what when "
    "where which while who whom why will with within without would you your"
)
_ABBREVIATION_SET = frozenset(_ABBREVIATIONS.split())
_STOP_WORD_SET = frozenset(_STOP_WORDS.split())

_LENGTH_DAMPING = 8  # terms; without it the shortest fragment would always win
_POSITION_BONUS = 0.2
_CODE_WEIGHT = 0.3


@dataclass(frozen=True)
class _Line:
    text: str
    leader: str
    begins_block: bool
    is_code: bool


_BREAK = _Line("", "", begins_block=True, is_code=False)


@dataclass(frozen=True)
class _Sentence:
    text: str
    terms: tuple[str, ...]
    is_code: bool


def summarise(text: str, *, sentences: int = 3) -> str:
    """Return the most telling sentences of `text`, in the text's order; the same text, the same.

    Whitespace is collapsed, comment leaders and list bullets are left out, sentences longer than
    400 characters are cut into pieces. Empty text gives "".

    >>> summarise("Cats sleep. Cats hunt mice at night, and mice hide. It rains.", sentences=1)
    'Cats hunt mice at night, and mice hide.'
    """
    return " ".join(key_sentences(text, sentences=sentences))


def key_sentences(text: str, *, sentences: int = 3) -> list[str]:
    """Return what `summarise` joins: at most `sentences` distinct sentences of `text`, in order.

    >>> key_sentences("One thing. Another thing.", sentences=5)
    ['One thing.', 'Another thing.']
    """
    if sentences < 1:
        raise InvalidOption(f"sentences={sentences!r} is less than 1", "Ask for one or more.")
    candidates = _distinct_sentences(text)
    if not candidates:  # nothing but punctuation, or nothing at all
        return list(_cut(" ".join(text.split())))[:sentences]
    scores = _scores(candidates)
    best = heapq.nsmallest(sentences, range(len(candidates)), key=lambda i: (-scores[i], i))
    return [candidates[i].text for i in sorted(best)]


def count_tokens(text: str) -> int:
    """Return how many tokens `text` is, about: words of six characters, so ≈ characters / 4.

    >>> count_tokens("Durable jobs, on PostgreSQL.")
    8
    """
    return sum(1 for _ in _TOKEN.finditer(text))


def token_pieces(text: str) -> list[str]:
    """Return `text` cut after each token: `count_tokens(text)` pieces, space in front of words.

    >>> token_pieces("Jobs resume.")
    ['Jobs', ' resume', '.']
    """
    ends = [match.end() for match in _TOKEN.finditer(text)]
    starts = [0, *ends]
    return [text[start:end] for start, end in zip(starts, ends, strict=False)]


def _distinct_sentences(text: str) -> list[_Sentence]:
    found: dict[str, _Sentence] = {}
    for block, is_code in _blocks(text):
        for whole in _split_block(block):
            for piece in _cut(whole):
                terms = (term.lower() for term in _TERM.findall(piece))
                kept = tuple(term for term in terms if term not in _STOP_WORD_SET)
                found.setdefault(piece.casefold(), _Sentence(piece, kept, is_code))
    return list(found.values())


def _scores(sentences: list[_Sentence]) -> list[float]:
    frequency = Counter(term for sentence in sentences for term in sentence.terms)
    spread = Counter(term for sentence in sentences for term in set(sentence.terms))
    total = len(sentences)
    weight = {term: tf * math.log(1 + total / spread[term]) for term, tf in frequency.items()}

    def score(index: int, sentence: _Sentence) -> float:
        # fsum, because a set's order, and with it a plain sum, differs from process to process.
        mass = math.fsum(weight[term] for term in set(sentence.terms))
        value = mass / (len(sentence.terms) + _LENGTH_DAMPING)
        value *= 1 + _POSITION_BONUS * (1 - index / total)
        return value * _CODE_WEIGHT if sentence.is_code else value

    return [score(index, sentence) for index, sentence in enumerate(sentences)]


def _blocks(text: str) -> Iterator[tuple[str, bool]]:
    """Yield (block, is it code): what belongs together, whitespace collapsed to single spaces."""
    lines: list[str] = []
    leader = ""
    for raw in text.splitlines():
        line = _BREAK if not raw or raw.isspace() else _read_line(raw)
        breaks = line.begins_block or line.is_code or line.leader != leader or not line.text
        if breaks and lines:
            yield " ".join(lines), False
            lines = []
        leader = line.leader
        if line.is_code:
            yield line.text, True
        elif line.text:
            lines.append(line.text)
    if lines:
        yield " ".join(lines), False


def _read_line(raw: str) -> _Line:
    text = " ".join(raw.split())
    for quotes in ('"""', "'''"):
        text = text.removeprefix(quotes).removesuffix(quotes).strip()
    text = text.removesuffix("*/").rstrip()
    leader, begins_block = "", False
    if comment := _COMMENT.match(text):
        leader, text = comment[1], text[comment.end() :]
    elif raw[:1].isspace() and text.startswith("* "):  # the inside of a C comment, not a bullet
        leader, text = "*", text[2:]
    elif bullet := _BULLET.match(text):
        begins_block, text = True, text[bullet.end() :]
    if not any(map(str.isalnum, text)):  # an underline, a fence, an empty comment
        return _BREAK
    return _Line(text, leader, begins_block=begins_block, is_code=_looks_like_code(text))


def _looks_like_code(line: str) -> bool:
    symbols = sum(map(line.count, _CODE_SYMBOLS))
    dense = symbols >= 3 and symbols / len(line) >= _CODE_SYMBOL_SHARE
    return dense or (len(line) <= MAX_SENTENCE_CHARS and _CODE.match(line) is not None)


def _split_block(block: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(block):
        if _ends_sentence(block, start, end):
            yield block[start : end.end()].strip()
            start = end.end()
    if rest := block[start:].strip():
        yield rest


def _ends_sentence(block: str, start: int, end: re.Match[str]) -> bool:
    following = block[end.end() : end.end() + 1]
    if not end[0]:  # an ideographic full stop needs no space after it
        return bool(following)
    last_word = block[max(start, block.rfind(" ", start, end.start()) + 1) : end.start()]
    abbreviated = last_word.strip("(\"'[").lower() in _ABBREVIATION_SET
    return not following.islower() and not abbreviated


def _cut(sentence: str) -> Iterator[str]:
    """Yield `sentence` in pieces of at most 400 characters, cut between words where it can."""
    start = 0
    while len(sentence) - start > MAX_SENTENCE_CHARS:
        space = sentence.rfind(" ", start, start + MAX_SENTENCE_CHARS + 1)
        end = space if space > start else start + MAX_SENTENCE_CHARS
        yield sentence[start:end]
        start = end + 1 if space > start else end
    if sentence[start:]:
        yield sentence[start:]
