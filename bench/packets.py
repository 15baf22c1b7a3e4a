"""What the kernel program costs a packet, in nanoseconds, by BPF_PROG_TEST_RUN with repetition.

No link, no socket, no copy: the program alone, warm. "flow" is a packet of an allowed TCP flow, which
is what nearly all packets are; "judged" is floor, prefixes and ports for a packet that begins one.
The median of five runs; each first makes sure that the verdict is the one that is meant.
"""

import statistics

from commit import datapath

RUNS = 5
KINDS = (("flow_out", "packet of a flow, out"), ("flow_in", "packet of a flow, in"),
         ("allowed", "packet judged, allowed"), ("denied", "packet judged, denied"))


def run(b):
    found = {rules: [datapath("packet", rules) for _ in range(RUNS)] for rules in (1, 64, 4096)}

    def figure(rules, family, kind):
        return statistics.median(one[family][kind] for one in found[rules])

    for family in "46":
        for kind, text in KINDS:
            least = figure(1, family, kind)
            for rules in (1, 64, 4096):
                b.add("packets", f"{text}, IPv{family}, {rules} rules",
                      figure(rules, family, kind), unit="ns",
                      peers=[("with 1 rule", least)] if rules > 1 else [],
                      of=1.5 if rules > 1 else None,
                      short="packet of a flow" if (family, kind, rules) ==
                      ("4", "flow_out", 4096) else None)
