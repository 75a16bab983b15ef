"""croniter: the next change of pairs of rules. Reads JSON from standard input, answers in JSON."""

import json
import sys
import time
from datetime import datetime
from zoneinfo import ZoneInfo

from croniter import croniter

asked = json.load(sys.stdin)
moments, found = [], []
for job in asked["jobs"]:
    zone = ZoneInfo(job["zone"])
    starts = [datetime.fromtimestamp(at, zone) for at in job["at"]]
    # Parsed once, as ours are.
    rules = [croniter(rule, starts[0]) for rule in (job["start"], job["stop"]) if rule]
    for at in starts:
        begin = time.perf_counter_ns()
        following = min(rule.get_next(datetime, start_time=at) for rule in rules)
        moments.append(time.perf_counter_ns() - begin)
        found.append(int(following.timestamp()))
print(json.dumps({"nanoseconds": sum(moments), "count": len(moments), "found": found}))
