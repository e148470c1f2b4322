"""Rewards: functions that measure how good an answer to a prompt is.

A reward gets three texts: the prompt, the answer and the given answer of the data. It returns a number: 1 for
a correct answer, less for any other. An answer that is cut off has reward 0 without a call.
"""


def final_answer(prompt: str, answer: str, given: str, *, separator: str = ",") -> float:
    """Return 1 if the text after the last separator equals that of the given answer, else 0.

    So `12,14,132` is as good as `12,13,132`: the steps do not count.
    """
    return float(answer.split(separator)[-1] == given.split(separator)[-1])
