from fakes.clockwork import Program

IMPLEMENTS = {"fake_train"}
DIFFERS = {"fake_train": "its steps are ten times as long as the workload's"}


def build(problem, framework):
    return Program(framework, learning_rate=0.01)
