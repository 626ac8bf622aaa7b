from fakes.clockwork import Program

IMPLEMENTS = {"fake_train"}
TUNED = {"fake_train": "the step, ten times too long"}


def build(problem, framework):
    is_tuned = problem.case.way.recipe == "tuned"
    return Program(framework, learning_rate=0.01 if is_tuned else 0.001)
