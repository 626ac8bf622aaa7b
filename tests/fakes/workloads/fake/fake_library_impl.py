from fakes.clockwork import Program

IMPLEMENTS = {"fake_train"}
OVERHEAD_S = 0.0025


def build(problem, framework):
    return Program(framework, overhead_s=OVERHEAD_S)
