//! Configuration: environment first, then an optional TOML file; every mistake in one report.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt, fs,
    str::FromStr,
    time::Duration,
};

use tracing_subscriber::EnvFilter;

use crate::{
    fit::{self, Needs},
    health::STUCK_AFTER,
    instance::InstanceConfig,
    presence::PresenceConfig,
};

/// Reads settings and collects every mistake, so that an operator mends all of them at once.
///
/// A setting `FLOTILLA_QUEUE_URL` is looked up in the environment, then as `queue_url` in the
/// TOML file that `FLOTILLA_CONFIG` names.
///
/// ```
/// use flotilla_runtime::config::Reader;
/// let mut settings = Reader::from_pairs([("FLOTILLA_SLOTS", "four")]);
/// let slots: usize = settings.parsed("FLOTILLA_SLOTS", 2);
/// let queue = settings.required("FLOTILLA_QUEUE_URL");
/// let mistakes = settings.finish().unwrap_err().to_string();
/// assert!(mistakes.contains("FLOTILLA_SLOTS") && mistakes.contains("FLOTILLA_QUEUE_URL"));
/// # let _ = (slots, queue);
/// ```
#[derive(Debug, Default)]
pub struct Reader {
    values: BTreeMap<String, String>,
    /// The names of the file's settings: one that nobody asks for is a mistake.
    in_file: Vec<String>,
    asked: BTreeSet<String>,
    mistakes: Vec<String>,
}

/// All the mistakes of a configuration.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration has {} mistake(s):", self.0.len())?;
        self.0.iter().try_for_each(|mistake| writeln!(f, "  - {mistake}"))
    }
}

impl std::error::Error for ConfigError {}

impl Reader {
    /// Reads the process's environment and the file that `FLOTILLA_CONFIG` names, if any.
    pub fn from_env() -> Self {
        let mut reader = Self::default();
        if let Ok(path) = env::var("FLOTILLA_CONFIG") {
            reader.read_file(&path);
        }
        let ours = env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v)));
        for (key, value) in ours.filter(|(key, _)| key.starts_with("FLOTILLA_")) {
            match value.into_string() {
                Ok(value) => drop(reader.values.insert(key, value)),
                Err(_) => reader.mistakes.push(format!("{key} is not UTF-8")),
            }
        }
        reader.logging();
        reader
    }

    /// Reads from the given pairs alone.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let values = pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { values, ..Self::default() }
    }

    fn read_file(&mut self, path: &str) {
        let table = fs::read_to_string(path)
            .map_err(|e| e.to_string())
            .and_then(|text| text.parse::<toml::Table>().map_err(|e| e.to_string()));
        match table {
            Ok(table) => table.into_iter().for_each(|(key, value)| self.take(&key, &value)),
            Err(why) => self.mistake(format!("FLOTILLA_CONFIG={path}: {why}")),
        }
    }

    /// Takes a setting of the file.
    fn take(&mut self, key: &str, value: &toml::Value) {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                value.to_string()
            }
            other => {
                let kind = other.type_str();
                return self.mistake(format!("{key}: a text, a number or a boolean, not a {kind}"));
            }
        };
        let name = format!("FLOTILLA_{}", key.to_uppercase());
        self.in_file.push(name.clone());
        self.values.insert(name, text);
    }

    /// Looks at what the log is set to. It has begun already by then, with what it could make of it.
    fn logging(&mut self) {
        if let Some(filter) = self.optional("FLOTILLA_LOG")
            && let Err(why) = EnvFilter::try_new(&filter)
        {
            self.mistake(format!("FLOTILLA_LOG={filter:?}: {why}"));
        }
        if let Some(format) = self.optional("FLOTILLA_LOG_FORMAT")
            && !["text", "json"].contains(&format.as_str())
        {
            self.mistake(format!("FLOTILLA_LOG_FORMAT={format:?}: it is text or json"));
        }
    }

    /// Settings that are known though they are not asked for now.
    pub fn knows(&mut self, names: &[&str]) {
        self.asked.extend(names.iter().map(|name| (*name).to_owned()));
    }

    /// Notes what stands in the file and nobody has asked for: a misspelt setting would be left at its
    /// default in silence. In the environment others may have names of their own.
    fn strangers(&mut self) {
        for name in std::mem::take(&mut self.in_file) {
            if self.asked.contains(&name) {
                continue;
            }
            let key = |name: &str| name.trim_start_matches("FLOTILLA_").to_lowercase();
            let near = self.asked.iter().min_by_key(|known| distance(known, &name));
            let near = near.map(|near| format!("; did you mean {}?", key(near)));
            let near = near.unwrap_or_default();
            self.mistake(format!("{} is no setting that is read here{near}", key(&name)));
        }
    }

    /// The value of a setting, if there is one.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        if !self.asked.contains(name) {
            self.asked.insert(name.to_owned());
        }
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// The value of a setting that has no default; a mistake is noted where it is missing.
    pub fn required(&mut self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.mistake(format!("{name} is not set"));
            String::new()
        })
    }

    /// A setting that parses as `T`, or its default.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, name: &str, default: T) -> T {
        let Some(text) = self.optional(name) else {
            return default;
        };
        text.parse().unwrap_or_else(|why| {
            self.mistake(format!("{name}={text:?}: {why}"));
            default
        })
    }

    /// A number within `range`, or its default.
    pub fn ranged<T>(&mut self, name: &str, default: T, range: std::ops::RangeInclusive<T>) -> T
    where
        T: FromStr<Err: fmt::Display> + PartialOrd + fmt::Display + Copy,
    {
        let value = self.parsed(name, default);
        if range.contains(&value) {
            return value;
        }
        let (low, high) = (range.start(), range.end());
        self.mistake(format!("{name}={value}: must be from {low} to {high}"));
        default
    }

    /// A duration in whole or broken seconds, or its default.
    pub fn seconds(&mut self, name: &str, default: f64, range: (f64, f64)) -> Duration {
        Duration::from_secs_f64(self.ranged(name, default, range.0..=range.1))
    }

    /// The same in whole seconds alone.
    pub fn whole_seconds(&mut self, name: &str, default: f64, range: (f64, f64)) -> Duration {
        let told = self.seconds(name, default, range);
        if told.subsec_nanos() > 0 {
            let told = told.as_secs_f64();
            self.mistake(format!("{name}={told}: must be whole seconds"));
        }
        told
    }

    /// Where to listen, `HOST:PORT`, or its default.
    pub fn address(&mut self, name: &str, default: &str) -> String {
        let told = self.optional(name).unwrap_or_else(|| default.to_owned());
        let parts = told.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if parts.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            self.mistake(format!("{name}={told:?}: must be HOST:PORT, like {default}"));
        }
        told
    }

    /// Notes a mistake, once.
    pub fn mistake(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.mistakes.contains(&what) {
            self.mistakes.push(what);
        }
    }

    /// Ends the reading: every mistake, or none.
    ///
    /// # Errors
    /// [`ConfigError`] lists all mistakes, each with the setting's name.
    pub fn finish(mut self) -> Result<(), ConfigError> {
        self.strangers();
        if self.mistakes.is_empty() { Ok(()) } else { Err(ConfigError(self.mistakes)) }
    }
}

/// How many characters must be put in, taken out or replaced to make one name of another.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, from) in one.bytes().enumerate() {
        let mut corner = line;
        let mut left = line + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(other.bytes()) {
            let above = *cell;
            left = (above + 1).min(left + 1).min(corner + usize::from(from != to));
            (corner, *cell) = (above, left);
        }
        row[0] = line + 1;
    }
    row.last().copied().unwrap_or_default()
}

/// A queue to consume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Its URL.
    pub url: String,
    /// Its share of the slots beside the worker's other queues, 1 to 1000.
    pub weight: u32,
}

/// The most queues of a worker: each costs its own long polls.
const MOST_QUEUES: usize = 16;

fn queues(settings: &mut Reader) -> Vec<QueueConfig> {
    const NAME: &str = "FLOTILLA_QUEUE_URL";
    let text = settings.required(NAME);
    let mut queues: Vec<QueueConfig> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match queue(part) {
            Ok(queue) if queues.iter().any(|other| other.url == queue.url) => {
                settings.mistake(format!("{NAME}: {} is there twice", queue.url));
            }
            Ok(queue) => queues.push(queue),
            Err(why) => settings.mistake(format!("{NAME}: {why}")),
        }
    }
    if queues.len() > MOST_QUEUES {
        settings.mistake(format!("{NAME}: {} queues, {MOST_QUEUES} at the most", queues.len()));
    }
    if queues.is_empty() && !text.is_empty() {
        settings.mistake(format!("{NAME}={text:?} names no queue"));
    }
    queues
}

/// `URL` or `URL*WEIGHT`.
fn queue(text: &str) -> Result<QueueConfig, String> {
    let (url, weight) = text.split_once('*').unwrap_or((text, "1"));
    match weight.trim().parse() {
        Ok(_) if !is_url(url.trim()) => {
            Err(format!("{:?} is no URL of a queue, like https://HOST/ACCOUNT/NAME", url.trim()))
        }
        Ok(weight @ 1..=1000) => Ok(QueueConfig { url: url.trim().to_owned(), weight }),
        _ => Err(format!("the weight {weight:?} of {url} must be from 1 to 1000")),
    }
}

/// Whether a text has a scheme, a host and a path.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let parts = rest.and_then(|rest| rest.split_once('/'));
    parts.is_some_and(|(host, path)| {
        !host.is_empty()
            && !path.trim_matches('/').is_empty()
            && !text.contains(char::is_whitespace)
    })
}

/// What every worker needs to know.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// `FLOTILLA_QUEUE_URL`: the queue to consume; or several with commas between, each with its
    /// weight where that is not 1: `https://…/urgent*8,https://…/rest`. While both are deep, the
    /// first gets eight messages in nine; while one is empty, the other gets all.
    pub queues: Vec<QueueConfig>,
    /// `FLOTILLA_LEDGER_TABLE`: the table of claims and finished effects.
    pub ledger_table: String,
    /// `FLOTILLA_PAYLOADS_BUCKET`: bodies over the SQS limit and log tails of dead letters.
    pub payloads_bucket: String,
    /// `FLOTILLA_WORKER_ID`: unique among live workers; default `host-pid`.
    pub worker_id: String,
    /// `FLOTILLA_SLOTS`: how many messages are worked on at a time (default: the CPU count). Where
    /// `FLOTILLA_CPUS`, `FLOTILLA_MEMORY_MIB` or `FLOTILLA_DISK_MIB` say what the worker may use
    /// of the machine, no more than fit into that (see [`Needs`]).
    pub slots: usize,
    /// `FLOTILLA_RECEIVE_AHEAD`: how many messages may be asked for beyond the free slots while a
    /// queue is deep and jobs take no longer than a receive or three (default: none). What finds no
    /// slot within a tenth of a second goes back.
    pub receive_ahead: usize,
    /// `FLOTILLA_TENANT_SLOTS`: how many of the slots one tenant may have (default: all). The tenant
    /// is the message's `MessageGroupId` on a standard queue, or whom the job knows from the
    /// message.
    pub tenant_slots: Option<usize>,
    /// `FLOTILLA_VISIBILITY_SECONDS`: the lease; a dead worker's message comes back after it
    /// (default 60 s).
    pub visibility: Duration,
    /// `FLOTILLA_WAIT_SECONDS`: the long poll, 1 to 20 whole seconds (default 20 s). A stop waits for it.
    pub wait: Duration,
    /// `FLOTILLA_GRACE_SECONDS`: how long a stop waits for running jobs (default 90 s). The stop has
    /// ended ten seconds after it at the latest, or after the long poll that was on its way.
    pub grace: Duration,
    /// `FLOTILLA_MAX_ATTEMPTS`: attempts before the dead-letter queue (default 5).
    pub max_attempts: u32,
    /// `FLOTILLA_RETRY_FIRST_SECONDS`: the ceiling of the first retry's delay (default 2 s).
    pub retry_first: Duration,
    /// `FLOTILLA_DEPTH_SECONDS`: how often the depth of a queue in use is asked for (default
    /// 60 s); an idle queue is asked once in thirty times.
    pub depth_every: Duration,
    /// `FLOTILLA_STUCK_SECONDS`: how long every slot may be busy without one job ending before
    /// `/healthz` fails (default an hour). Longer than the longest job.
    pub stuck_after: Duration,
    /// `FLOTILLA_CONTROL_SECONDS`: how often the operator's orders are looked for (default 10 s).
    pub control_every: Duration,
    /// The EC2 instance under the worker.
    pub instance: InstanceConfig,
    /// `FLOTILLA_HTTP_ADDR`: where `/metrics`, `/healthz` and `/readyz` listen.
    pub http_addr: String,
    /// Where the worker tells of itself, on an instance of a group.
    pub presence: Option<PresenceConfig>,
}

impl WorkerConfig {
    /// Has no more slots than jobs of these needs fit into what the worker may use.
    pub fn fit(&mut self, settings: &mut Reader, needs: &Needs) {
        self.slots = fit::slots(settings, needs);
    }

    /// Has so many slots where nobody says how many, within what the worker may use: for jobs that mostly
    /// wait for others.
    pub fn slots_by_default(&mut self, settings: &mut Reader, many: usize) {
        self.slots = fit::slots_or(settings, many);
    }

    /// Reads the settings that all workers share.
    pub fn read(settings: &mut Reader) -> Self {
        let slots = fit::slots(settings, &Needs::default());
        Self {
            queues: queues(settings),
            ledger_table: settings.required("FLOTILLA_LEDGER_TABLE"),
            payloads_bucket: settings.required("FLOTILLA_PAYLOADS_BUCKET"),
            worker_id: settings.optional("FLOTILLA_WORKER_ID").unwrap_or_else(default_worker_id),
            slots,
            receive_ahead: settings.ranged("FLOTILLA_RECEIVE_AHEAD", 0, 0..=10_000),
            tenant_slots: match settings.ranged("FLOTILLA_TENANT_SLOTS", 0, 0..=1024) {
                0 => None,
                most => Some(most),
            },
            visibility: settings.seconds("FLOTILLA_VISIBILITY_SECONDS", 60.0, (3.0, 43_200.0)),
            wait: settings.whole_seconds("FLOTILLA_WAIT_SECONDS", 20.0, (1.0, 20.0)),
            grace: settings.seconds("FLOTILLA_GRACE_SECONDS", 90.0, (0.0, 43_200.0)),
            max_attempts: settings.ranged("FLOTILLA_MAX_ATTEMPTS", 5, 1..=1000),
            retry_first: settings.seconds("FLOTILLA_RETRY_FIRST_SECONDS", 2.0, (0.01, 900.0)),
            depth_every: settings.seconds("FLOTILLA_DEPTH_SECONDS", 60.0, (1.0, 3600.0)),
            stuck_after: settings.seconds(
                "FLOTILLA_STUCK_SECONDS",
                STUCK_AFTER.as_secs_f64(),
                (1.0, 86_400.0),
            ),
            control_every: settings.seconds("FLOTILLA_CONTROL_SECONDS", 10.0, (0.1, 3600.0)),
            instance: InstanceConfig::read(settings),
            http_addr: settings.address("FLOTILLA_HTTP_ADDR", "127.0.0.1:9100"),
            presence: PresenceConfig::read(settings),
        }
    }
}

/// A name for this process, `host-pid`.
pub fn default_worker_id() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "worker" } else { host.trim() };
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests;
