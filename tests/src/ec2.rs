//! A stub of EC2, where an emulator does not refuse as the service does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Form, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

/// What it knows, and how it misbehaves.
#[derive(Debug)]
struct Facts {
    /// State and type of each instance.
    instances: BTreeMap<String, (String, String)>,
    /// Of a hundred calls, so many are throttled and so many answered with 500.
    faults: (u32, u32),
    /// Types without capacity.
    full: BTreeSet<String>,
    denied: bool,
    /// What nobody may start or stop, though they may the others.
    forbidden: BTreeSet<String>,
    /// Whether nobody may even look.
    blind: bool,
    /// Whoever stops something waits here for the answer.
    gate: Option<Arc<Semaphore>>,
    /// Whether it is who asks for the permission that waits there.
    asking: bool,
    chances: StdRng,
    calls: BTreeMap<String, u64>,
    hibernated: BTreeSet<String>,
    /// Whether `DryRun` is not known, and what is only to be tried is done.
    naive: bool,
}

type Shared = Arc<Mutex<Facts>>;
type Fields = BTreeMap<String, String>;

/// Answers `DescribeInstances` (by the filter `instance-id`, without pages), `StartInstances`,
/// `StopInstances` and `ModifyInstanceAttribute` (the type alone; there is none that begins with
/// `nope`). Instances change their state at once. An instance whose id ends in `h` can hibernate.
/// The same instances are databases too, to `DescribeDBInstances` (by the filter
/// `db-instance-id`), `StartDBInstance` and `StopDBInstance`. Signatures and regions are not looked
/// at.
#[derive(Debug)]
pub struct FakeEc2 {
    facts: Shared,
    url: String,
    server: JoinHandle<()>,
}

impl FakeEc2 {
    /// Starts it with so many running instances, `i-0000` and so on.
    pub async fn start(count: usize, seed: u64) -> Self {
        let running = || ("running".to_owned(), "m5.large".to_owned());
        let instances = (0..count).map(|n| (format!("i-{n:04}"), running())).collect();
        let facts: Shared = Arc::new(Mutex::new(Facts {
            instances,
            faults: (0, 0),
            full: BTreeSet::new(),
            denied: false,
            forbidden: BTreeSet::new(),
            blind: false,
            gate: None,
            asking: false,
            chances: StdRng::seed_from_u64(seed),
            calls: BTreeMap::new(),
            hibernated: BTreeSet::new(),
            naive: false,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().route("/", post(answer)).with_state(facts.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { facts, url, server }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn with<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(&mut self.facts.lock().expect("no panic before"))
    }

    /// Adds an instance.
    pub fn add(&self, id: &str, state: &str) {
        let instance = (state.to_owned(), "m5.large".to_owned());
        self.with(|facts| facts.instances.insert(id.to_owned(), instance));
    }

    /// From now on, of a hundred calls so many are throttled and so many answered with 500.
    pub fn fail(&self, throttled: u32, broken: u32) {
        self.with(|facts| facts.faults = (throttled, broken));
    }

    /// From now on nobody may start or stop anything, or everybody again.
    pub fn deny(&self, denied: bool) {
        self.with(|facts| facts.denied = denied);
    }

    /// From now on nobody may start or stop these, which fails a call that names one of them.
    pub fn forbid(&self, ids: &[&str]) {
        self.with(|facts| facts.forbidden = ids.iter().map(|it| (*it).to_owned()).collect());
    }

    /// From now on nobody may even look, or everybody again.
    pub fn blind(&self, blind: bool) {
        self.with(|facts| facts.blind = blind);
    }

    /// From now on what is stopped is stopped, and whoever asked for it hears nothing until
    /// [`answer`](Self::answer).
    pub fn hold(&self) {
        self.with(|facts| facts.gate = Some(Arc::new(Semaphore::new(0))));
    }

    /// From now on whoever asks whether it may stop something hears nothing, and nothing is stopped,
    /// until [`answer`](Self::answer).
    pub fn hold_asking(&self) {
        self.hold();
        self.with(|facts| facts.asking = true);
    }

    /// Answers everybody who waits, and from now on at once.
    pub fn answer(&self) {
        let gate = self.with(|facts| facts.gate.take());
        gate.inspect(|gate| gate.close());
    }

    /// From now on there is no capacity for these types.
    pub fn fill(&self, types: &[&str]) {
        self.with(|facts| facts.full = types.iter().map(|it| (*it).to_owned()).collect());
    }

    /// From now on it does not know `DryRun`, as some stand-ins of AWS: it does what is only to be tried.
    pub fn ignore_dry_runs(&self) {
        self.with(|facts| facts.naive = true);
    }

    /// How many instances are in a state.
    pub fn count(&self, state: &str) -> usize {
        self.with(|facts| facts.instances.values().filter(|it| it.0 == state).count())
    }

    /// State and type of an instance.
    pub fn instance(&self, id: &str) -> (String, String) {
        self.with(|facts| facts.instances[id].clone())
    }

    /// Whether an instance was put to sleep.
    pub fn hibernated(&self, id: &str) -> bool {
        self.with(|facts| facts.hibernated.contains(id))
    }

    /// How many calls there were, dry runs apart.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.with(|facts| facts.calls.clone())
    }
}

impl Drop for FakeEc2 {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(facts): State<Shared>, Form(fields): Form<Fields>) -> Response {
    let (answer, gate) = {
        let mut facts = facts.lock().expect("no panic before");
        let answer = asked(&mut facts, &fields);
        let stops = fields.get("Action").is_some_and(|it| it.starts_with("Stop"));
        let dry = fields.get("DryRun").is_some_and(|it| it == "true");
        (answer, facts.gate.clone().filter(|_| stops && dry == facts.asking))
    };
    if let Some(gate) = gate {
        // It is closed, never opened.
        let _ = gate.acquire().await;
    }
    answer
}

fn asked(facts: &mut Facts, fields: &Fields) -> Response {
    let action = fields.get("Action").cloned().unwrap_or_default();
    let dry = fields.get("DryRun").is_some_and(|it| it == "true");
    let name = if dry { format!("{action} (dry)") } else { action.clone() };
    *facts.calls.entry(name).or_default() += 1;
    let (throttled, broken) = facts.faults;
    let refuse = if action.contains("DB") { refused_by_rds } else { refused };
    match facts.chances.random_range(0..100) {
        n if n < throttled => return refuse(503, "RequestLimitExceeded", "too many requests"),
        n if n < throttled + broken => return refuse(500, "InternalError", "as ordered"),
        _ => {}
    }
    if facts.blind {
        return refuse(403, "UnauthorizedOperation", "you may not look");
    }
    let dry = dry && !facts.naive;
    match action.as_str() {
        "DescribeInstances" if dry => refused(412, "DryRunOperation", "it would have succeeded"),
        "DescribeInstances" => describe(facts, fields),
        "StartInstances" | "StopInstances" => switch(facts, &action, fields, dry),
        "ModifyInstanceAttribute" => {
            let kind = fields["InstanceType.Value"].clone();
            if kind.starts_with("nope") {
                return refused(400, "InvalidParameterValue", "there is no such type");
            }
            facts.instances.get_mut(&fields["InstanceId"]).expect("an instance").1 = kind;
            xml(
                "<ModifyInstanceAttributeResponse><return>true</return></ModifyInstanceAttributeResponse>",
            )
        }
        "DescribeDBInstances" => describe_databases(facts, fields),
        "StartDBInstance" | "StopDBInstance" => {
            let state = if action.starts_with("Start") { "running" } else { "stopped" };
            let id = &fields["DBInstanceIdentifier"];
            facts.instances.get_mut(id).expect("a database").0 = state.to_owned();
            xml(&format!("<{action}Response><{action}Result/></{action}Response>"))
        }
        _ => refuse(400, "InvalidAction", &action),
    }
}

fn describe_databases(facts: &Facts, fields: &Fields) -> Response {
    let items = values(fields, "Filters.Filter.1.Values.Value.").filter_map(|id| {
        let running = facts.instances.get(id)?.0 == "running";
        let state = if running { "available" } else { "stopped" };
        Some(format!(
            "<DBInstance><DBInstanceIdentifier>{id}</DBInstanceIdentifier>\
             <DBInstanceStatus>{state}</DBInstanceStatus></DBInstance>"
        ))
    });
    let items: String = items.collect();
    xml(&format!(
        "<DescribeDBInstancesResponse><DescribeDBInstancesResult><DBInstances>{items}</DBInstances>\
         </DescribeDBInstancesResult></DescribeDBInstancesResponse>"
    ))
}

fn values<'a>(fields: &'a Fields, prefix: &'a str) -> impl Iterator<Item = &'a String> {
    fields.iter().filter(move |(key, _)| key.starts_with(prefix)).map(|(_, value)| value)
}

fn describe(facts: &Facts, fields: &Fields) -> Response {
    let items = values(fields, "Filter.1.Value.").filter_map(|id| {
        let (state, kind) = facts.instances.get(id)?;
        Some(format!(
            "<item><instancesSet><item><instanceId>{id}</instanceId><instanceType>{kind}</instanceType>\
             <instanceState><code>0</code><name>{state}</name></instanceState></item></instancesSet></item>"
        ))
    });
    let items: String = items.collect();
    xml(&format!(
        "<DescribeInstancesResponse><reservationSet>{items}</reservationSet></DescribeInstancesResponse>"
    ))
}

fn switch(facts: &mut Facts, action: &str, fields: &Fields, dry: bool) -> Response {
    let ids: Vec<&String> = values(fields, "InstanceId.").collect();
    if facts.denied || ids.iter().any(|id| facts.forbidden.contains(*id)) {
        return refused(403, "UnauthorizedOperation", "you are not authorized");
    }
    if let Some(id) = ids.iter().find(|id| !facts.instances.contains_key(**id)) {
        return refused(400, "InvalidInstanceID.NotFound", id);
    }
    if dry {
        return refused(412, "DryRunOperation", "it would have succeeded");
    }
    let starts = action == "StartInstances";
    let full = |id: &&&String| facts.full.contains(&facts.instances[**id].1);
    if let Some(id) = ids.iter().find(full).filter(|_| starts) {
        return refused(500, "InsufficientInstanceCapacity", id);
    }
    let sleeps = fields.get("Hibernate").is_some_and(|it| it == "true");
    if let Some(id) = ids.iter().find(|id| sleeps && !id.ends_with('h')) {
        return refused(400, "UnsupportedHibernationConfiguration", id);
    }
    for id in ids {
        let state = if starts { "running" } else { "stopped" };
        facts.instances.get_mut(id).expect("an instance").0 = state.to_owned();
        if sleeps {
            facts.hibernated.insert(id.clone());
        }
    }
    xml(&format!("<{action}Response><instancesSet/></{action}Response>"))
}

fn xml(body: &str) -> Response {
    ([(CONTENT_TYPE, "text/xml")], body.to_owned()).into_response()
}

fn refused(status: u16, code: &str, message: &str) -> Response {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>0</RequestID></Response>"
    );
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(CONTENT_TYPE, "text/xml")], body).into_response()
}

fn refused_by_rds(status: u16, code: &str, message: &str) -> Response {
    let body = format!(
        "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>0</RequestId></ErrorResponse>"
    );
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(CONTENT_TYPE, "text/xml")], body).into_response()
}
