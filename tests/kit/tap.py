"""Results of a test program that is a story rather than a set of cases: TAP, said as it happens.

	tap = Tap(); tap.ok("what holds", condition, "what was seen"); tap.say("a remark")
	sys.exit(tap.end())
"""


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def ok(self, what, condition, seen=""):
        self.count += 1
        self.failed += not condition
        why = "" if condition or not seen else f": {seen}"
        print(f"{'ok' if condition else 'not ok'} {self.count} - {what}{why}", flush=True)
        return condition

    def say(self, text):
        print(f"# {text}", flush=True)

    def end(self):
        """The plan and the counts; the exit status."""
        print(f"1..{self.count}\n# tests {self.count}\n# pass {self.count - self.failed}\n"
              f"# fail {self.failed}", flush=True)
        return 1 if self.failed else 0
