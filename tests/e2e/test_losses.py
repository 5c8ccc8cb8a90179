"""Every loss of preferences against its paper's formula, on all rows of one batch, by a model moved away from its base.

The log-probabilities are those of plain models, row by row without padding; only the batch's mean is compared. What TRL
does otherwise than a paper says stands beside the formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support import training as support

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

# One batch of all rows, with answers of several lengths.
WHOLE = "batch {{ micro_batch: {0} global_batch: {0} }} "
BETA = 0.3
EPSILON = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """Log-probabilities of an answer's tokens, by the trained model and by the reference."""

    policy: Sequence[float]
    reference: Sequence[float]

    @property
    def logp(self) -> float:
        return sum(self.policy)

    @property
    def mean(self) -> float:
        return self.logp / len(self.policy)

    @property
    def ratio(self) -> float:
        return self.logp - sum(self.reference)

    @property
    def mean_ratio(self) -> float:
        return self.ratio / len(self.policy)

    def first(self, count: int, tail: float) -> float:
        """The ratio with the tokens after the first `count` weighed by `tail`."""
        ratios = [a - b for a, b in zip(self.policy, self.reference, strict=True)]
        return sum(ratios[:count]) + tail * sum(ratios[count:])


Pair = tuple[Answer, Answer]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logistic(x: float) -> float:
    """-log sigmoid(x)."""
    return math.log1p(math.exp(-x))


def flipped(x: float) -> float:
    return (1 - EPSILON) * logistic(x) + EPSILON * logistic(-x)


def each(loss: Callable[[Answer, Answer], float]) -> Callable[[Sequence[Pair]], float]:
    """The mean of a loss of one pair."""
    return lambda pairs: sum(loss(*pair) for pair in pairs) / len(pairs)


def difference(chosen: Answer, rejected: Answer) -> float:
    return BETA * (chosen.ratio - rejected.ratio)


def exo(chosen: Answer, rejected: Answer) -> float:
    """KL divergence of the policy's preference from the smoothed one; arXiv 2402.00856, equation 16."""
    p = sigmoid(difference(chosen, rejected))
    return p * math.log(p / (1 - EPSILON)) + (1 - p) * math.log((1 - p) / EPSILON)


def discopop(chosen: Answer, rejected: Answer) -> float:
    """arXiv 2406.08414, equation 5, with its temperature of 0.05."""
    x = difference(chosen, rejected)
    mixed = sigmoid(x / 0.05)
    return (1 - mixed) * logistic(x) + mixed * math.exp(-x)


def sorted_differences(a: Sequence[float], b: Sequence[float]) -> float:
    """Optimal transport in one dimension: the quantiles are compared; arXiv 2406.05882."""
    quantiles = zip(sorted(a), sorted(b), strict=True)
    return sum(flipped(BETA * (x - y)) for x, y in quantiles) / len(a)


def aot(pairs: Sequence[Pair]) -> float:
    policy = [c.logp - r.logp for c, r in pairs]
    return sorted_differences(policy, [sum(c.reference) - sum(r.reference) for c, r in pairs])


def likelihood(pairs: Sequence[Pair]) -> float:
    """Over the tokens of all chosen answers."""
    return -sum(c.logp for c, _ in pairs) / sum(len(c.policy) for c, _ in pairs)


DPO: dict[str, Callable[[Sequence[Pair]], float]] = {
    "SIGMOID": each(lambda c, r: logistic(difference(c, r))),
    "HINGE": each(lambda c, r: max(0.0, 1 - difference(c, r))),
    # Of log-probabilities per token.
    "IPO": each(lambda c, r: (c.mean_ratio - r.mean_ratio - 1 / (2 * BETA)) ** 2),
    "ROBUST": each(
        lambda c, r: (
            ((1 - EPSILON) * logistic(difference(c, r)) - EPSILON * logistic(-difference(c, r))) / (1 - 2 * EPSILON)
        )
    ),
    "EXO_PAIR": each(exo),
    "NCA_PAIR": each(
        lambda c, r: logistic(BETA * c.ratio) + 0.5 * logistic(-BETA * c.ratio) + 0.5 * logistic(-BETA * r.ratio)
    ),
    # Without the paper's running mean of rewards.
    "BCO_PAIR": each(lambda c, r: logistic(BETA * c.ratio) + logistic(-BETA * r.ratio)),
    "SPPO_HARD": each(lambda c, r: (c.ratio - 1 / (2 * BETA)) ** 2 + (r.ratio + 1 / (2 * BETA)) ** 2),
    "AOT": aot,
    "AOT_UNPAIRED": lambda pairs: sorted_differences([c.ratio for c, _ in pairs], [r.ratio for _, r in pairs]),
    "APO_ZERO": each(lambda c, r: 1 - sigmoid(BETA * c.ratio) + sigmoid(BETA * r.ratio)),
    "APO_DOWN": each(lambda c, r: sigmoid(BETA * c.ratio) + 1 - sigmoid(difference(c, r))),
    "DISCOPOP": each(discopop),
    "SFT": likelihood,
    "SIGMOID_NORM": each(lambda c, r: logistic(BETA * (c.mean_ratio - r.mean_ratio))),
}
SMOOTHED = ("ROBUST", "EXO_PAIR", "AOT", "AOT_UNPAIRED")


def ld_dpo(chosen: Answer, rejected: Answer) -> float:
    """arXiv 2409.06411: what goes beyond the shorter answer weighs less."""
    shorter = min(len(chosen.policy), len(rejected.policy))
    return logistic(BETA * (chosen.first(shorter, 0.25) - rejected.first(shorter, 0.25)))


MIXED = "losses { loss: DPO_LOSS_SIGMOID weight: 0.8 } losses { loss: DPO_LOSS_SFT weight: 0.3 }"


def log_odds(answer: Answer) -> float:
    return answer.mean - math.log1p(-math.exp(answer.mean))


CPO: dict[str, tuple[str, Callable[[Sequence[Pair]], float]]] = {
    "sigmoid": (
        f"loss: CPO_LOSS_SIGMOID label_smoothing: {EPSILON} nll_weight: 0.5",
        lambda p: each(lambda c, r: flipped(BETA * (c.logp - r.logp)))(p) + 0.5 * likelihood(p),
    ),
    "hinge": (
        "loss: CPO_LOSS_HINGE nll_weight: 1",
        lambda p: each(lambda c, r: max(0.0, 1 - BETA * (c.logp - r.logp)))(p) + likelihood(p),
    ),
    "ipo": ("loss: CPO_LOSS_IPO nll_weight: 0", each(lambda c, r: (c.mean - r.mean - 1 / (2 * BETA)) ** 2)),
    # arXiv 2405.14734, equation 6.
    "simpo": (
        "loss: CPO_LOSS_SIMPO nll_weight: 0 gamma: 0.7",
        each(lambda c, r: logistic(BETA * (c.mean - r.mean) - 0.7)),
    ),
}


@pytest.fixture(scope="module")
def base(smol_nano: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(smol_nano, dtype="float32").eval()


@pytest.fixture(scope="module")
def moved(base: Any) -> Any:
    """The model as if it had been trained: every weight a little elsewhere."""
    from copy import deepcopy

    import torch

    policy, chance = deepcopy(base), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.05 * weight.std() * torch.randn(weight.shape, generator=chance)
    return policy


@pytest.fixture(scope="module")
def tokenizer(smol_nano: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smol_nano)


@pytest.fixture(scope="module")
def pairs(base: Any, moved: Any, tokenizer: Any) -> list[Pair]:
    rows = support.preference_rows(tokenizer)
    return [
        tuple(answer(base, moved, row["prompt_ids"], row[name]) for name in ("chosen_ids", "rejected_ids"))  # type: ignore[misc]
        for row in rows
    ]


def answer(base: Any, moved: Any, prompt: list[int], ids: list[int]) -> Answer:
    return Answer(logps(moved, prompt + ids)[-len(ids) :], logps(base, prompt + ids)[-len(ids) :])


def logps(model: Any, ids: list[int]) -> list[float]:
    """Of each token but the first."""
    import torch

    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    return [float(found[place, token]) for place, token in enumerate(ids[1:])]


def loss_of_trainer(model: Path, prepared: Path, run: Path, stage: str, changes: str, policy: Any, rows: int) -> float:
    """What our trainer computes on all rows at once with the weights of `policy`."""
    import torch

    from fttrain import recipe
    from fttrain.report import Report

    spec = support.resolved_spec(model, stage, "full", WHOLE.format(rows) + f"{stage} {{ {changes} }}")
    message = support.bootstrap(run, spec, prepared)
    trainer, _ = recipe.build_trainer(message, recipe.load_rows(message), Report(None, 1))
    trainer.model.load_state_dict(policy.state_dict(), strict=False)
    trainer.model.eval()
    (batch,) = trainer.get_train_dataloader()
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


@pytest.mark.parametrize("name", DPO)
def test_dpo(name: str, smol_nano: Path, rows: dict[str, Path], moved: Any, pairs: list[Pair], tmp_path: Path) -> None:
    changes = f"beta: {BETA} loss: DPO_LOSS_{name}" + (f" label_smoothing: {EPSILON}" if name in SMOOTHED else "")
    found = loss_of_trainer(smol_nano, rows["dpo"], tmp_path, "dpo", changes, moved, len(pairs))
    assert found == pytest.approx(DPO[name](pairs), rel=2e-4)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (MIXED, lambda pairs: 0.8 * DPO["SIGMOID"](pairs) + 0.3 * likelihood(pairs)),
        ("ld_alpha: 0.25", each(ld_dpo)),
    ],
    ids=["several losses", "ld_alpha"],
)
def test_dpo_with_more(
    changes: str,
    expected: Callable[[Sequence[Pair]], float],
    smol_nano: Path,
    rows: dict[str, Path],
    moved: Any,
    pairs: list[Pair],
    tmp_path: Path,
) -> None:
    found = loss_of_trainer(smol_nano, rows["dpo"], tmp_path, "dpo", f"beta: {BETA} {changes}", moved, len(pairs))
    assert found == pytest.approx(expected(pairs), rel=2e-4)


@pytest.mark.parametrize("name", CPO)
def test_cpo(name: str, smol_nano: Path, rows: dict[str, Path], moved: Any, pairs: list[Pair], tmp_path: Path) -> None:
    changes, expected = CPO[name]
    found = loss_of_trainer(smol_nano, rows["cpo"], tmp_path, "cpo", f"beta: {BETA} {changes}", moved, len(pairs))
    assert found == pytest.approx(expected(pairs), rel=2e-4)


@pytest.mark.parametrize(
    ("loss", "weight"),
    # arXiv 2508.05629, equation 9: a token weighs as much as it is likely.
    [("NLL", lambda logp: 1.0), ("DFT", math.exp)],
)
def test_sft(
    loss: str,
    weight: Callable[[float], float],
    smol_nano: Path,
    rows: dict[str, Path],
    moved: Any,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    """The mean over all trained tokens of the batch, not over rows."""
    trained = [
        logp
        for row in support.sft_rows(tokenizer)
        for logp, label in zip(logps(moved, row["input_ids"]), row["labels"][1:], strict=True)
        if label != -100
    ]
    expected = -sum(weight(logp) * logp for logp in trained) / len(trained)
    found = loss_of_trainer(smol_nano, rows["sft"], tmp_path, "sft", f"loss: SFT_LOSS_{loss}", moved, 8)
    assert found == pytest.approx(expected, rel=2e-4)


def test_orpo(
    smol_nano: Path, rows: dict[str, Path], moved: Any, tokenizer: Any, pairs: list[Pair], tmp_path: Path
) -> None:
    """arXiv 2403.07691, equations 4, 6 and 7; the likelihood is of prompt and answer."""
    whole = [logps(moved, row["prompt_ids"] + row["chosen_ids"]) for row in support.preference_rows(tokenizer)]
    expected = -sum(map(sum, whole)) / sum(map(len, whole))
    expected += BETA * each(lambda c, r: logistic(log_odds(c) - log_odds(r)))(pairs)
    found = loss_of_trainer(smol_nano, rows["orpo"], tmp_path, "orpo", f"beta: {BETA}", moved, len(pairs))
    assert found == pytest.approx(expected, rel=2e-4)


def test_kto(smol_nano: Path, rows: dict[str, Path], base: Any, moved: Any, tokenizer: Any, tmp_path: Path) -> None:
    """arXiv 2402.01306, equations 7 and 8, its reference point from each prompt with the answer of the row before."""
    from datasets import Dataset

    mixed = Dataset.from_list(support.labelled_rows(tokenizer)).shuffle(seed=42).to_list()
    others = [mixed[-1], *mixed[:-1]]
    mismatched = [
        answer(base, moved, row["prompt_ids"], other["completion_ids"]).ratio
        for row, other in zip(mixed, others, strict=True)
    ]
    point = max(0.0, sum(mismatched) / len(mismatched))
    expected = 0.0
    for row in mixed:
        gain = answer(base, moved, row["prompt_ids"], row["completion_ids"]).ratio - point
        value = 1.5 * (1 - sigmoid(BETA * gain)) if row["label"] else 0.5 * (1 - sigmoid(-BETA * gain))
        expected += value / len(mixed)
    changes = f"beta: {BETA} desirable_weight: 1.5 undesirable_weight: 0.5"
    found = loss_of_trainer(smol_nano, rows["kto"], tmp_path, "kto", changes, moved, len(mixed))
    assert found == pytest.approx(expected, rel=2e-4)


def test_reward(smol_nano: Path, rows: dict[str, Path], tokenizer: Any, tmp_path: Path) -> None:
    """Bradley and Terry's log-odds, and a pull of both rewards to zero; arXiv 2312.09244, equation 2."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(3)
    scoring = AutoModelForSequenceClassification.from_pretrained(smol_nano, num_labels=1, dtype="float32").eval()
    expected = 0.0
    pairs = support.whole_rows(tokenizer)
    for row in pairs:
        with torch.no_grad():
            chosen, rejected = (
                float(scoring(input_ids=torch.tensor([row[name]])).logits) for name in ("chosen_ids", "rejected_ids")
            )
        expected += (logistic(chosen - rejected) + 0.1 * (chosen + rejected) ** 2) / len(pairs)
    changes = "center_coefficient: 0.1"
    found = loss_of_trainer(smol_nano, rows["reward"], tmp_path, "reward", changes, scoring, len(pairs))
    assert found == pytest.approx(expected, rel=2e-4)
