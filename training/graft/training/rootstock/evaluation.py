"""What a rootstock base must show on instances it never saw: steps help, and examples in the prompt help."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from graft.training.evaluation.answerer import Answerer
from graft.training.rootstock.corpus import arithmetic, rules

SHOTS = (0, 1, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Score:
    """How many of a task's held-out questions were answered exactly right."""

    task: str
    setting: str
    num_right: int
    num_trials: int

    @property
    def percent(self) -> float:
        return 100 * self.num_right / self.num_trials


def evaluate(answerer: Answerer, *, num_trials: int = 200, seed: int = 0) -> list[Score]:
    """Additions of 1, 2 and 3 digits, direct and worked, and every rule from 0, 1, 4 and 8 examples.

    Each addition setting gets ``num_trials`` questions; so does each number of examples over all rules together
    (rounded up to whole rules).
    """
    return [*additions(answerer, num_trials, seed), *examples(answerer, num_trials, seed)]


def additions(answerer: Answerer, num_trials: int, seed: int) -> Iterable[Score]:
    for num_digits in (1, 2, 3):
        for with_steps in (False, True):
            rng = Random(f"{seed}/{num_digits}/{with_steps}")
            pairs = [arithmetic.prompt(rng, num_digits=num_digits, with_steps=with_steps) for _ in range(num_trials)]
            right = _num_right(answerer, pairs, max_tokens=64 if with_steps else 8, read=_last_part)
            setting = "worked" if with_steps else "direct"
            yield Score(task=f"{num_digits}-digit sum", setting=setting, num_right=right, num_trials=num_trials)


def examples(answerer: Answerer, num_trials: int, seed: int) -> Iterable[Score]:
    per_rule = -(-num_trials // len(rules.RULES))
    for num_examples in SHOTS:
        questions = []
        for rule in rules.RULES:
            rng = Random(f"{seed}/{rule.name}/{num_examples}")
            questions += [rules.prompt(rule, rng, num_examples=num_examples) for _ in range(per_rule)]
        said = answerer.complete([prompt for prompt, _ in questions], max_tokens=32, stop="\n")
        right = [one.strip() == answer for one, (_, answer) in zip(said, questions, strict=True)]
        for index, rule in enumerate(rules.RULES):
            num_right = sum(right[index * per_rule : (index + 1) * per_rule])
            yield Score(task=rule.name, setting=f"{num_examples}-shot", num_right=num_right, num_trials=per_rule)


def table(scores: Sequence[Score]) -> str:
    """The scores as text: sums by setting, rules by number of examples, all rules together, and the two differences
    that matter.
    """
    sums = {(score.task, score.setting): score for score in scores if score.task.endswith("sum")}
    shots = [f"{count}-shot" for count in SHOTS]
    by_rule = {(score.task, score.setting): score for score in scores if score.setting in shots}
    overall = {shot: _total(score for score in scores if score.setting == shot) for shot in shots}
    num_trials = max(score.num_trials for score in sums.values())
    lines = [f"{'additions (' + str(num_trials) + ' each)':<28}{'direct':>9}{'worked':>9}"]
    for task in dict.fromkeys(task for task, _ in sums):
        lines.append(f"{task:<28}{sums[task, 'direct'].percent:>8.1f}%{sums[task, 'worked'].percent:>8.1f}%")
    lines += ["", f"{'functions from examples':<28}" + "".join(f"{shot:>9}" for shot in shots)]
    for task in dict.fromkeys(task for task, _ in by_rule):
        lines.append(f"{task:<28}" + "".join(f"{by_rule[task, shot].percent:>8.0f}%" for shot in shots))
    total_label = f"all ({overall[shots[0]].num_trials} each)"
    lines.append(f"{total_label:<28}" + "".join(f"{overall[shot].percent:>8.1f}%" for shot in shots))
    gain_worked = sums["3-digit sum", "worked"].percent - sums["3-digit sum", "direct"].percent
    gain_shots = overall["4-shot"].percent - overall["0-shot"].percent
    lines += [
        "",
        f"3-digit sums, worked over direct: {gain_worked:+.1f} points",
        f"4-shot over 0-shot: {gain_shots:+.1f} points",
    ]
    return "\n".join(lines)


def _total(scores: Iterable[Score]) -> Score:
    listed = list(scores)
    return Score(
        task="all",
        setting=listed[0].setting,
        num_right=sum(score.num_right for score in listed),
        num_trials=sum(score.num_trials for score in listed),
    )


def _last_part(text: str) -> str:
    """The answer of a worked line stands after the last semicolon; a direct one is the whole line."""
    return text.rsplit(";", 1)[-1].strip()


def _num_right(
    answerer: Answerer, questions: Sequence[tuple[str, str]], *, max_tokens: int, read: Callable[[str], str]
) -> int:
    """Of prompts and the answers that count as right."""
    said = answerer.complete([prompt for prompt, _ in questions], max_tokens=max_tokens, stop="\n")
    return sum(read(one) == answer for one, (_, answer) in zip(said, questions, strict=True))
