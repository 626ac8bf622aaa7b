from fakes.clockwork import STEP_S, Program

IMPLEMENTS = {"fake_train"}
TUNED = {"fake_train": "two sums in one pass"}
TUNED_STEP_S = 0.008


def build(problem, framework):
    is_tuned = problem.case.way.recipe == "tuned"
    return Program(framework, step_s=TUNED_STEP_S if is_tuned else STEP_S)
