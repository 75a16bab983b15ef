"""A schedule decided minute by minute, and by nothing but the wall clock of each minute.

Reads jobs, one JSON object a line: zone, from (seconds since 1970, a whole minute), minutes, start
and stop (cron rules of five fields: numbers, *, */n, a-b and lists). Answers each with one line: the
changes of the state as [minute, state], of which the first is what the first rule brought.

The zones are read by Python's own zoneinfo, from PYTHONTZPATH.
"""

import json
import sys
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)


def numbers(text, low, high):
    found = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, last = low, high
        if span != "*":
            first, _, last = span.partition("-")
            first, last = int(first), int(last or first)
        found.update(range(first, last + 1, int(step or 1)))
    return found


class Rule:
    def __init__(self, text):
        minute, hour, day, month, weekday = text.split()
        self.minutes, self.hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
        self.days, self.months = numbers(day, 1, 31), numbers(month, 1, 12)
        self.weekdays = {n % 7 for n in numbers(weekday, 0, 7)}
        self.either = day != "*" and weekday != "*"

    def matches(self, local):
        if local.minute not in self.minutes or local.hour not in self.hours:
            return False
        if local.month not in self.months:
            return False
        day, weekday = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return day or weekday if self.either else day and weekday


def changes(job):
    zone, start, stop = ZoneInfo(job["zone"]), Rule(job["start"]), Rule(job["stop"])
    # Most minutes match neither: their hour and minute tell.
    near = {(h, m) for rule in (start, stop) for h in rule.hours for m in rule.minutes}
    state, found, high = None, [], None
    begin = job["from"]
    for minute in range(job["minutes"]):
        wall = datetime.fromtimestamp(begin + 60 * minute, zone).replace(tzinfo=None, fold=0)
        if high is not None and wall <= high:
            continue  # shown before: all of it has happened
        local = wall if high is None else high + MINUTE
        before = state
        while local <= wall:
            if (local.hour, local.minute) in near:
                if start.matches(local):
                    state = "ON"
                if stop.matches(local):
                    state = "OFF"
            local += MINUTE
        high = wall
        if state != before:
            found.append([minute, state])
    return found


for line in sys.stdin:
    print(json.dumps(changes(json.loads(line))), flush=True)
