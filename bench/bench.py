"""make bench: Weir against its named peers, in one run on one machine.

	bench.py [--json FILE] [--rounds N] [--into FILE] [NAME...]
	bench.py --list
	bench.py --markdown [FILE]	print a former result as doc/performance.md's table
	bench.py --into FILE --markdown	put that table between FILE's two marks instead

Prints a table, writes build/bench.json (or FILE), and ends in one line of figures. NAME selects
from --list; each is a module beside this one with a function run(b), and says in its first comment
how its figures are made. README.md is the summary. Needs root; see measure.py for what a row is.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
from measure import COLUMNS, ROOT, Bench, Skip, kit, machine, markdown  # noqa: E402

# In the order of running: what is small first, what heats the page cache last.
NAMES = ("create", "burst", "execs", "policy", "commit", "packets", "throughput", "overlay", "dns",
         "ingress", "memory", "vm", "files")
BEGIN, END = "<!-- make bench -->", "<!-- /make bench -->"


def module(name):
    return importlib.import_module(name)


def default_json():
    return os.path.join(kit.build_dir(), "bench.json")


def commit():
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return "commit " + done.stdout.strip() if done.returncode == 0 else "no commit known"


def put_into(path, table):
    with open(path) as f:
        text = f.read()
    before, found, rest = text.partition(BEGIN)
    _, found_too, after = rest.partition(END)
    if not found or not found_too:
        sys.exit(f"bench: {path} has no {BEGIN} … {END}")
    with open(path, "w") as f:
        f.write(f"{before}{BEGIN}\n{table}{END}{after}")


def run(names, rounds):
    """All rows; a module that fails is named at the end and does not stop the others."""
    failed = []
    start = time.monotonic()
    with Bench(rounds) as b:
        for name in names:
            began = time.monotonic()
            try:
                module(name).run(b)
            except Skip as e:
                b.skipped.append(f"{name}: {e}")
                print(f"{name}: skipped: {e}", flush=True)
            except Exception:  # noqa: BLE001 - told, and the status says so
                failed.append(name)
                traceback.print_exc()
            print(f"{'':44} [{name}: {time.monotonic() - began:.0f} s]", flush=True)
    aims = [r["met"] for r in b.rows if "met" in r]
    print(f"bench: {'; '.join(b.short)}; {sum(aims)} of {len(aims)} aims met, "
          f"{len(b.skipped)} skipped, {len(failed)} failed"
          f"{' (' + ', '.join(failed) + ')' if failed else ''}, {time.monotonic() - start:.0f} s")
    return {"machine": machine(), "commit": commit(), "when": time.strftime("%Y-%m-%d"),
            "seconds": round(time.monotonic() - start), "rows": b.rows, "skipped": b.skipped,
            "failed": failed}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--into", metavar="FILE")
    parser.add_argument("--markdown", nargs="?", const="", metavar="FILE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    if args.list:
        for name in NAMES:
            print(f"{name:12} {module(name).__doc__.splitlines()[0]}")
        return 0
    unknown = [n for n in args.names if n not in NAMES]
    if unknown:
        parser.error(f"no rows called {', '.join(unknown)}; --list names them")
    if args.markdown is None:
        if os.geteuid() != 0:
            parser.error("needs root: it makes sandboxes, namespaces and mounts")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is taken away
        kit.prepare()
        print(f"{machine()}\n{COLUMNS}")
        result = run(args.names or NAMES, args.rounds)
        with open(args.json or default_json(), "w") as f:
            json.dump(result, f, indent=1, ensure_ascii=False)
    else:
        with open(args.markdown or args.json or default_json()) as f:
            result = json.load(f)
    if args.into:
        put_into(args.into, markdown(result))
    elif args.markdown is not None:
        print(markdown(result), end="")
    return 1 if result["failed"] and args.markdown is None else 0


if __name__ == "__main__":
    sys.exit(main())
