"""A schedule decided minute by minute, and by nothing but the wall clock of each minute.

Reads jobs, one JSON object a line, and answers each with one line.

A job with `minutes` has a zone, from (seconds since 1970, a whole minute), and either start and stop
(cron rules of cron's five fields or AWS's six) or period (windows as the README tells them); gap
(`end` or `skip`) and fold (`first` or `second`) say what becomes of local times that are shown never or
twice. The answer: the changes of the state as [minute, state], of which the first is what the first
rule brought, or the state at the beginning.

A job with `days` has from (a date) and either rule or period, without a time of day. The answer: those
of so many days on which it is.

Holidays of a period are events: first (a date), days, rule (an RRULE, or null) and except.

The zones are read by Python's own zoneinfo, from PYTHONTZPATH.
"""

import json
import sys
from calendar import monthrange
from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MONTHS = tuple("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split())
WEEKDAYS = tuple("SUN MON TUE WED THU FRI SAT".split())


def number(text, names=(), first=1):
    return names.index(text) + first if text in names else int(text)


@cache
def numbers(text, low, high, names=(), first=1):
    found = set()
    for item in text.upper().split(","):
        span, slash, step = item.partition("/")
        begin, end = low, high
        if span != "*":
            begin, dash, end = span.partition("-")
            begin = number(begin, names, first)
            end = number(end, names, first) if dash else high if slash else begin
        if end < begin:  # over the end of the week or the year
            end += high - low + 1
        found.update((n - low) % (high - low + 1) + low for n in range(begin, end + 1, int(step or 1)))
    return found


def last_day(day):
    return monthrange(day.year, day.month)[1]


@cache
def month_workdays(first):
    return [n for n in range(1, last_day(first) + 1) if first.replace(day=n).isoweekday() < 6]


def workdays(day):
    """The days from Monday to Friday of a day's month."""
    return month_workdays(day.replace(day=1))


def in_month(item, day):
    if item == "L":
        return day.day == last_day(day)
    if item == "LW":
        return day.day == max(workdays(day))
    if item.startswith("L-") and item.endswith("W"):
        wanted = last_day(day) - int(item[2:-1])
        return wanted >= 1 and day.day == min(workdays(day), key=lambda n: abs(n - wanted))
    if item.startswith("L-"):
        return day.day == last_day(day) - int(item[2:])
    if item.endswith("W"):
        wanted = int(item[:-1])
        there = wanted <= last_day(day)
        return there and day.day == min(workdays(day), key=lambda n: abs(n - wanted))
    return day.day in numbers(item, 1, 31)


def in_week(item, day, first):
    """Weekdays are numbered from `first`, which is Sunday."""
    own = day.isoweekday() % 7 + first
    if item == "L":
        return own == first + 6
    if "#" in item:
        name, _, nth = item.partition("#")
        return own == number(name, WEEKDAYS, first) and (day.day - 1) // 7 + 1 == int(nth)
    if item.endswith("L"):
        alone = (day + 7 * DAY).month != day.month
        return own == number(item[:-1], WEEKDAYS, first) and alone
    return own in {(n - first) % 7 + first for n in numbers(item, first, first + 6, WEEKDAYS, first)}


class Days:
    def __init__(self, of_month, of_week, first):
        self.of_month, self.of_week, self.first = of_month.upper(), of_week.upper(), first

    def match(self, day):
        chosen = []
        if self.of_month not in "*?":
            chosen.append(any(in_month(item, day) for item in self.of_month.split(",")))
        if self.of_week not in "*?":
            items = self.of_week.split(",")
            chosen.append(any(in_week(item, day, self.first) for item in items))
        return any(chosen) if chosen else True


class Rule:
    def __init__(self, text):
        minute, hour, of_month, month, of_week, *year = text.split()
        self.minutes, self.hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
        self.days = Days(of_month, of_week, 1 if year else 0)
        self.months = numbers(month, 1, 12, MONTHS)
        self.years = numbers(year[0], 1970, 2199) if year else None
        self.known = {}

    def on(self, day):
        if day not in self.known:
            dated = day.month in self.months and (self.years is None or day.year in self.years)
            self.known[day] = dated and self.days.match(day)
        return self.known[day]

    def near(self):
        return {(h, m) for h in self.hours for m in self.minutes}

    def matches(self, local):
        return local.hour in self.hours and local.minute in self.minutes and self.on(local.date())


class Rules:
    """A pair: the later one counts, of two at once the stop."""

    def __init__(self, start, stop):
        self.start, self.stop, self.state = Rule(start), Rule(stop), None

    def near(self):
        return self.start.near() | self.stop.near()

    def reach(self, local):
        if self.start.matches(local):
            self.state = "ON"
        if self.stop.matches(local):
            self.state = "OFF"


@cache
def year_days(year):
    return [date(year, 1, 1) + n * DAY for n in range(365 + (monthrange(year, 2)[1] == 29))]


def rounds(first, part):
    """The days of each day, week, month or year in which a rule comes."""
    kind, every, end = part["FREQ"], int(part.get("INTERVAL", 1)), date(2031, 1, 1)
    if kind == "YEARLY":
        yield from (year_days(year) for year in range(first.year, end.year, every))
    elif kind == "MONTHLY":
        for month in range(12 * first.year + first.month - 1, 12 * end.year, every):
            year, month = divmod(month, 12)
            yield [day for day in year_days(year) if day.month == month + 1]
    else:
        length = 7 if kind == "WEEKLY" else 1
        begin = first
        while length == 7 and WEEKDAYS[begin.isoweekday() % 7][:2] != part.get("WKST", "MO"):
            begin -= DAY
        while begin < end:
            yield [begin + n * DAY for n in range(length)]
            begin += length * every * DAY


def filled(first, part):
    """What a rule does not say is as it is of the first day."""
    part = dict(part)
    if not {"BYMONTHDAY", "BYYEARDAY", "BYDAY"} & set(part):
        if part["FREQ"] == "WEEKLY":
            part["BYDAY"] = WEEKDAYS[first.isoweekday() % 7][:2]
        if part["FREQ"] in ("MONTHLY", "YEARLY"):
            part["BYMONTHDAY"] = str(first.day)
        if part["FREQ"] == "YEARLY":
            part.setdefault("BYMONTH", str(first.month))
    return part


def named(part, name, number, length):
    """Whether a rule names a number, counted from the beginning or from the end."""
    return name not in part or bool({number, number - length - 1} & set(map(int, part[name].split(","))))


@cache
def alike(year, month, weekday):
    """The days of a year, or of a month of it, that are of a weekday."""
    days = [day for day in year_days(year) if month in (None, day.month)]
    return [day for day in days if WEEKDAYS[day.isoweekday() % 7].startswith(weekday)]


def is_weekday(item, day, part):
    by_month = part["FREQ"] == "MONTHLY" or "BYMONTH" in part
    days = alike(day.year, day.month if by_month else None, item[-2:])
    nth = int(item[:-2] or 0)
    return day in days and nth in (0, days.index(day) + 1, days.index(day) - len(days))


def meant(day, part):
    return (
        named(part, "BYMONTH", day.month, 12)
        and named(part, "BYMONTHDAY", day.day, last_day(day))
        and named(part, "BYYEARDAY", day.timetuple().tm_yday, len(year_days(day.year)))
        and ("BYDAY" not in part or any(is_weekday(it, day, part) for it in part["BYDAY"].split(",")))
    )


def begins(event):
    first = date.fromisoformat(event["first"])
    if event["rule"] is None:
        yield first
        return
    part = filled(first, dict(it.split("=") for it in event["rule"].split(";")))
    left, until = int(part.get("COUNT", 9999)), part.get("UNTIL", "99991231")
    for days in rounds(first, part):
        days = [day for day in days if meant(day, part)]
        if "BYSETPOS" in part:
            days = [day for n, day in enumerate(days, 1) if named(part, "BYSETPOS", n, len(days))]
        for day in days:
            if day < first:
                continue
            if left == 0 or day.strftime("%Y%m%d") > until:
                return
            left -= 1
            yield day


def holidays(events):
    found = set()
    for event in events:
        for day in begins(event):
            if day.isoformat() not in event["except"]:
                found.update(day + n * DAY for n in range(event["days"]))
    return found


def minute_of(text):
    hour, _, minute = text.partition(":")
    return 60 * int(hour) + int(minute)


class Window:
    def __init__(self, text, free):
        words = text.upper().split()
        spans = [span.split("-") for span in words.pop().split(",")] if ":" in words[-1] else []
        self.spans = [(minute_of(begin), minute_of(end)) for begin, end in spans]
        self.only = "HOLIDAYS" in words
        words = [word for word in words if word not in ("HOLIDAYS", "DAILY")]
        self.free, self.season, self.months = free, None, set(range(1, 13))
        if words and words[0][:3] in MONTHS:
            begin, _, end = words[0].partition("-")
            if begin[3:].isdigit():
                self.season = [(MONTHS.index(it[:3]) + 1, int(it[3:])) for it in (begin, end)]
            else:
                self.months = numbers(words[0], 1, 12, MONTHS)
            words.pop(0)
        day = words[0] if words else "*"
        by_number = day[0].isdigit() or day[0] in "*L"
        self.days = Days(day, "?", 0) if by_number else Days("?", day, 0)

    def on(self, day):
        if self.free is not None and (day in self.free) != self.only:
            return False
        if self.season:
            (begin, end), own = self.season, (day.month, day.day)
            if not (begin <= own <= end if begin <= end else own >= begin or own <= end):
                return False
        return day.month in self.months and self.days.match(day)


class Periods:
    """Windows, each from its beginning on the clock up to its end."""

    def __init__(self, text, events):
        free = None if events is None else holidays(events)
        self.windows = [Window(part, free) for part in text.split(";")]
        self.open, self.state = [], "OFF"

    def on(self, day):
        return any(window.on(day) for window in self.windows)

    def near(self):
        spans = [span for window in self.windows for span in window.spans]
        return {divmod(minute % 1440, 60) for span in spans for minute in span}

    def reach(self, local):
        self.open = [end for end in self.open if end > local]
        now = 60 * local.hour + local.minute
        for window in self.windows:
            for begin, end in window.spans:
                if begin == now and window.on(local.date()):
                    length = end - begin if end > begin else end - begin + 1440
                    self.open.append(local + length * MINUTE)
        self.state = "ON" if self.open else "OFF"


def shown_twice(wall, zone):
    first, second = (wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first > second


def changes(job):
    zone, begin = ZoneInfo(job["zone"]), job["from"]
    skips, seconds = job.get("gap") == "skip", job.get("fold") == "second"
    found, high = [], None
    if "period" in job:
        plan = Periods(job["period"], job.get("holidays"))
        # What began before, and is open still.
        high = datetime.fromtimestamp(begin - 60, zone).replace(tzinfo=None)
        for back in range(2880, -1, -1):
            plan.reach(high - back * MINUTE)
        found.append([0, plan.state])
    else:
        plan = Rules(job["start"], job["stop"])
    # Most minutes match nothing: their hour and minute tell.
    near = plan.near()
    for minute in range(job["minutes"]):
        shown = datetime.fromtimestamp(begin + 60 * minute, zone)
        wall = shown.replace(tzinfo=None, fold=0)
        if high is not None and wall <= high:
            continue  # shown before: all of it has happened
        if seconds and not shown.fold and shown_twice(wall, zone):
            continue  # it will be shown again, and happen then
        local = wall if high is None or skips else high + MINUTE
        before = plan.state
        while local <= wall:
            if (local.hour, local.minute) in near:
                plan.reach(local)
            local += MINUTE
        high = wall
        if plan.state != before:
            if minute == 0 and found:
                found.clear()
            found.append([minute, plan.state])
    return found


def days(job):
    begin = date.fromisoformat(job["from"])
    plan = Rule("0 0 " + job["rule"]) if "rule" in job else Periods(job["period"], job.get("holidays"))
    every = (begin + n * DAY for n in range(job["days"]))
    return [day.isoformat() for day in every if plan.on(day)]


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(changes(job) if "minutes" in job else days(job)), flush=True)
