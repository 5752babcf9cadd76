"""Judge a candidate against a control from counts: sequential tests that may be looked at always.

What is tested, under which null hypothesis and with which promise: docs/judge.md.
"""

from agent.judge.judge import Judge
from agent.judge.verdict import CheckResult, Judgement, Verdict

__all__ = ["CheckResult", "Judge", "Judgement", "Verdict"]
