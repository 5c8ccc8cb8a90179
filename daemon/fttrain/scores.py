"""How close answers are to the ones expected: BLEU-4, ROUGE and exact matches, all in percent. Pure.

BLEU is that of the whole set, smoothed exponentially, as sacrebleu computes it on the same tokens; ROUGE is the mean of
the rows' F-measures. Words are runs of letters and digits; Chinese, Japanese and Korean, which have no space between
words, are taken character by character. It must never know a model.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_BLEU_ORDER = 4
# Han, kana, hangul; then words of other scripts; then anything else that is seen.
_CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_CHARACTERS}]|[^\W{_CHARACTERS}]+|[^\w\s]")
_WORD = re.compile(rf"[{_CHARACTERS}]|[^\W{_CHARACTERS}]+")
Tokens = Sequence[str]


def scores(answers: Sequence[str], expected: Sequence[str]) -> dict[str, float]:
    """The figures of as many answers as are expected; at least one."""
    tokens = [
        (_TOKEN.findall(answer), _TOKEN.findall(wanted)) for answer, wanted in zip(answers, expected, strict=True)
    ]
    words = [tuple(_WORD.findall(text.lower()) for text in pair) for pair in zip(answers, expected, strict=True)]
    same = sum(answer.strip() == wanted.strip() for answer, wanted in zip(answers, expected, strict=True))
    return {
        "bleu": bleu(tokens),
        "rouge1": _mean([_overlap(1, *pair) for pair in words]),
        "rouge2": _mean([_overlap(2, *pair) for pair in words]),
        "rougeL": _mean([_f_measure(_common_subsequence(*pair), len(pair[0]), len(pair[1])) for pair in words]),
        "exact_match": 100 * same / len(answers),
    }


def bleu(pairs: Sequence[tuple[Tokens, Tokens]]) -> float:
    """BLEU of answers and what was expected, as tokens."""
    answered, wanted = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    if not answered:
        return 0.0
    logarithms, smooth = 0.0, 1.0
    for order in range(1, _BLEU_ORDER + 1):
        matched = total = 0
        for answer, expected in pairs:
            found = _grams(order, answer)
            matched += sum((found & _grams(order, expected)).values())
            total += sum(found.values())
        if not total or (order == 1 and not matched):
            return 0.0
        if not matched:
            smooth *= 2
        logarithms += math.log(matched / total if matched else 1 / (smooth * total))
    brevity = min(0.0, 1 - wanted / answered)
    return 100 * math.exp(brevity + logarithms / _BLEU_ORDER)


def _overlap(order: int, answer: Tokens, expected: Tokens) -> float:
    """ROUGE-N of one row."""
    found, wanted = _grams(order, answer), _grams(order, expected)
    return _f_measure(sum((found & wanted).values()), sum(found.values()), sum(wanted.values()))


def _f_measure(matched: int, found: int, wanted: int) -> float:
    return 200 * matched / (found + wanted) if matched else 0.0


def _grams(order: int, tokens: Tokens) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + order]) for start in range(len(tokens) - order + 1))


def _common_subsequence(a: Tokens, b: Tokens) -> int:
    """Length of the longest one."""
    lengths = [0] * (len(b) + 1)
    for token in a:
        diagonal = 0
        for index, other in enumerate(b, 1):
            diagonal, lengths[index] = (
                lengths[index],
                diagonal + 1 if token == other else max(lengths[index], lengths[index - 1]),
            )
    return lengths[-1]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
