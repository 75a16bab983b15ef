//! The crate `cron`: the next change of pairs of rules. Reads JSON from standard input, answers in
//! JSON.

use std::{io::Read, str::FromStr, time::Instant};

use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use cron::Schedule;
use serde_json::{Value, json};

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("standard input");
    let asked: Value = serde_json::from_str(&text).expect("JSON");
    let (mut nanoseconds, mut found) = (0, Vec::new());
    for job in asked["jobs"].as_array().expect("jobs") {
        let zone: Tz = job["zone"].as_str().expect("a zone").parse().expect("a zone");
        let rules = ["start", "stop"].map(|name| job[name].as_str().expect("a rule"));
        let rules = rules.iter().filter(|rule| !rule.is_empty()).map(|rule| parse(rule));
        let rules: Vec<Schedule> = rules.collect();
        for at in job["at"].as_array().expect("instants") {
            let at = zone.timestamp_opt(at.as_i64().expect("an instant"), 0).unwrap();
            let begin = Instant::now();
            let next: Option<DateTime<Tz>> =
                rules.iter().filter_map(|rule| rule.after(&at).next()).min();
            nanoseconds += begin.elapsed().as_nanos();
            found.push(next.map(|it| it.timestamp()));
        }
    }
    let answer = json!({ "nanoseconds": nanoseconds as u64, "count": found.len(), "found": found });
    println!("{answer}");
}

/// Its rules have seconds, and weekdays that count from 1 (Sunday).
fn parse(rule: &str) -> Schedule {
    let fields: Vec<&str> = rule.split(' ').collect();
    let weekday = match fields[4] {
        "*" => "*".to_owned(),
        days => days
            .split(',')
            .map(|part| {
                let up = |n: &str| (n.parse::<u8>().expect("a weekday") % 7 + 1).to_string();
                part.split('-').map(up).collect::<Vec<_>>().join("-")
            })
            .collect::<Vec<_>>()
            .join(","),
    };
    let text = format!("0 {} {} {} {} {weekday}", fields[0], fields[1], fields[2], fields[3]);
    Schedule::from_str(&text).expect("a rule")
}
