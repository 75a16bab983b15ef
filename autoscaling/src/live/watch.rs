//! CloudWatch: what SQS does not tell of itself.

use std::{collections::HashMap, time::Duration};

use aws_config::SdkConfig;
use flotilla_runtime::{failure::Failure, signed::Call};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    config::{AutoscalerConfig, queue_name},
    now_ms,
};
use crate::observed::{Millis, QueueSeen};

/// A call takes 500 metrics, two for each queue.
const QUEUES_A_CALL: usize = 250;
/// What is asked for: name, statistic, and what it is called in the request.
const METRICS: [(&str, &str, &str); 2] = [
    ("NumberOfMessagesSent", "Sum", "sent"),
    ("ApproximateAgeOfOldestMessage", "Maximum", "oldest"),
];
/// A datapoint is that of a minute.
const PERIOD_S: u64 = 60;
/// What is older says nothing about now.
const PAST_S: u64 = 600;

const PATIENCE: Duration = Duration::from_secs(3);
/// What it said last holds for so long when it does not answer.
const KEPT: Duration = Duration::from_secs(PAST_S);

/// What CloudWatch says of the queues of a group, asked now and then.
///
/// It is minutes late, so nothing waits for it: where it is silent, all is decided as without it.
/// What it alone knows is the age of the oldest message, and how many arrive as long as the fleet's own
/// books cannot tell: for some seconds after a start.
#[derive(Debug)]
pub(super) struct Watch {
    sdk: SdkConfig,
    url: String,
    region: String,
    queues: Vec<String>,
    every: Option<Duration>,
    asked: Option<Instant>,
    /// When it answered last.
    answered: Option<Instant>,
    told: HashMap<String, Told>,
}

/// What it said of a queue last.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Told {
    sent_per_s: Option<f64>,
    oldest_ms: Option<Millis>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    metric_data_results: Vec<Series>,
}

/// The values of one metric, the latest first.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Series {
    id: String,
    #[serde(default)]
    values: Vec<f64>,
}

impl Watch {
    pub(super) fn new(sdk: &SdkConfig, config: &AutoscalerConfig) -> Self {
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let own = || format!("https://monitoring.{region}.{suffix}");
        let local = config.cloudwatch_url.clone().or_else(|| sdk.endpoint_url().map(str::to_owned));
        Self {
            url: local.unwrap_or_else(own),
            sdk: sdk.clone(),
            region,
            queues: config.queue_urls.iter().map(|url| queue_name(url).to_owned()).collect(),
            every: config.cloudwatch,
            asked: None,
            answered: None,
            told: HashMap::new(),
        }
    }

    /// Fills in what CloudWatch knows of each queue and nobody else does.
    pub(super) async fn look(&mut self, queues: &mut [QueueSeen]) {
        let Some(every) = self.every else { return };
        if self.asked.is_none_or(|at| at.elapsed() >= every) {
            self.asked = Some(Instant::now());
            // The group's turn waits for it, so it does not wait for long.
            let told = tokio::time::timeout(PATIENCE, self.ask()).await;
            let told = told.unwrap_or_else(|_| Err(silent()));
            match told {
                Ok(told) => (self.told, self.answered) = (told, Some(Instant::now())),
                Err(failure) => tracing::warn!(%failure, "CloudWatch is done without"),
            }
        }
        // A call that fails takes back nothing: without it the group would be seen to be at rest.
        if self.answered.is_some_and(|at| at.elapsed() > KEPT) {
            self.told.clear();
        }
        for queue in queues {
            let told = self.told.get(&queue.name).copied().unwrap_or_default();
            queue.oldest_ms = told.oldest_ms;
            queue.arrivals_per_s = queue.arrivals_per_s.or(told.sent_per_s);
        }
    }

    async fn ask(&self) -> Result<HashMap<String, Told>, Failure> {
        let mut told = HashMap::new();
        for queues in self.queues.chunks(QUEUES_A_CALL) {
            let body = request(queues, now_ms() / 1000).to_string();
            let headers = [
                ("content-type", "application/x-amz-json-1.0"),
                ("x-amz-target", "GraniteServiceVersion20100801.GetMetricData"),
            ];
            let (service, region) = ("monitoring", self.region.as_str());
            let call =
                Call { service, region, url: &self.url, headers: &headers, body: Some(&body) };
            let (status, answer) = call.send(&self.sdk).await?;
            let read = serde_json::from_str(&answer).ok().filter(|_| status == 200);
            let read: Answer = read.ok_or_else(|| refused(status, &answer))?;
            told.extend(read.told(queues));
        }
        Ok(told)
    }
}

impl Answer {
    fn told(self, queues: &[String]) -> HashMap<String, Told> {
        let mut told: HashMap<String, Told> = HashMap::new();
        for Series { id, values } in self.metric_data_results {
            let Some(value) = values.first().copied().filter(|it| it.is_finite() && *it >= 0.0)
            else {
                continue;
            };
            for (_, _, name) in METRICS {
                let number = id.strip_prefix(name).and_then(|number| number.parse::<usize>().ok());
                let Some(queue) = number.and_then(|number| queues.get(number)) else { continue };
                let of = told.entry(queue.clone()).or_default();
                match name {
                    "sent" => of.sent_per_s = Some(value / PERIOD_S as f64),
                    _ => of.oldest_ms = Some((value * 1000.0) as Millis),
                }
            }
        }
        told
    }
}

/// The last whole minutes of each metric of each queue.
fn request(queues: &[String], now_s: u64) -> Value {
    let end = now_s - now_s % PERIOD_S;
    let query = |(number, queue): (usize, &String)| {
        METRICS.map(|(metric, statistic, name)| {
            let dimensions = json!([{ "Name": "QueueName", "Value": queue }]);
            let of =
                json!({ "Namespace": "AWS/SQS", "MetricName": metric, "Dimensions": dimensions });
            let of = json!({ "Metric": of, "Period": PERIOD_S, "Stat": statistic });
            json!({ "Id": format!("{name}{number}"), "MetricStat": of })
        })
    };
    json!({
        "StartTime": end - PAST_S, "EndTime": end, "ScanBy": "TimestampDescending",
        "MetricDataQueries": queues.iter().enumerate().flat_map(query).collect::<Vec<_>>(),
    })
}

fn silent() -> Failure {
    Failure::transient("cloudwatch", format!("no answer within {PATIENCE:?}"))
}

fn refused(status: u16, answer: &str) -> Failure {
    let answer: String = answer.chars().take(300).collect();
    Failure::transient("cloudwatch", format!("GetMetricData is answered with {status}: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_it_said_last_holds_for_ten_minutes() {
        let now = Instant::now();
        let told = Told { sent_per_s: Some(2.0), oldest_ms: Some(7_500) };
        let mut watch = Watch {
            sdk: SdkConfig::builder().build(),
            url: String::new(),
            region: String::new(),
            queues: Vec::new(),
            every: Some(KEPT * 9),
            asked: Some(now),
            answered: Some(now),
            told: HashMap::from([("a".to_owned(), told)]),
        };
        let mut oldest = Vec::new();
        for _ in 0..2 {
            let mut queues = [QueueSeen::empty("a")];
            watch.look(&mut queues).await;
            oldest.push((queues[0].oldest_ms, queues[0].arrivals_per_s));
            tokio::time::advance(KEPT + Duration::from_millis(1)).await;
        }
        assert_eq!(oldest, [(Some(7_500), Some(2.0)), (None, None)]);
    }

    #[test]
    fn whole_minutes_of_both_metrics_of_each_queue_are_asked_for() {
        let asked = request(&["a".to_owned(), "b".to_owned()], 1_800_000_059);
        assert_eq!(
            (asked["EndTime"].as_u64().unwrap() % 60, asked["EndTime"].clone()),
            (0, json!(1_800_000_000))
        );
        let queries = asked["MetricDataQueries"].as_array().unwrap();
        let ids: Vec<_> = queries.iter().map(|it| it["Id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["sent0", "oldest0", "sent1", "oldest1"]);
        assert_eq!(queries[3]["MetricStat"]["Metric"]["Dimensions"][0]["Value"], "b");
    }

    #[test]
    fn the_latest_value_counts_and_silence_is_nothing() {
        let answer = json!({ "MetricDataResults": [
            { "Id": "sent0", "Values": [120.0, 6000.0] }, { "Id": "oldest0", "Values": [7.5] },
            { "Id": "sent1", "Values": [] }, { "Id": "sent9", "Values": [1.0] },
            { "Id": "oldest1", "Values": [-1.0] },
        ] });
        let answer: Answer = serde_json::from_value(answer).unwrap();
        let told = answer.told(&["a".to_owned(), "b".to_owned()]);
        let a = Told { sent_per_s: Some(2.0), oldest_ms: Some(7_500) };
        assert_eq!(told, HashMap::from([("a".to_owned(), a)]));
    }
}
