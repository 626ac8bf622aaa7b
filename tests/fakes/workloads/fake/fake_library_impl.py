from fakes.clockwork import Program

IMPLEMENTS = {"fake_train"}
TUNED = {"fake_train": "its bookkeeping once, not in every step"}
OVERHEAD_S = 0.0025


def build(problem, framework):
    is_tuned = problem.case.way.recipe == "tuned"
    return Program(framework, overhead_s=0.0 if is_tuned else OVERHEAD_S)
