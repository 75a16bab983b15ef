//! From text to a topology, with all faults of the text at once.
//!
//! Both formats become one tree of JSON values first; then every table is taken apart by name, so
//! that what is left over is an unknown key.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_runtime::once::Once;
use serde_json::{Map, Value};

use super::{
    DEVICES, EDGES, Format, Link, TEXT_LIMIT, Topology, TopologyError, derived, span::milliseconds,
};
use crate::{
    engine::{Confirm, DeviceRule, Drift, Outlier, Range, Rate, Rule, Seasonal, Stuck, Threshold},
    reading::check_id,
};

/// More faults than these are not told.
const FAULTS: usize = 50;
/// Nothing is counted further.
const COUNT: u64 = 1_000_000;

/// What is wrong, and where.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, place: &str, what: impl std::fmt::Display) {
        if self.0.len() < FAULTS {
            self.0.push(format!("{place}: {what}"));
        }
    }
}

/// A table of the text, taken apart key by key.
struct Table<'a> {
    place: String,
    fields: Map<String, Value>,
    faults: &'a mut Faults,
}

pub(super) fn topology(text: &str, format: Format) -> Result<Topology, TopologyError> {
    let refused = |what: String| TopologyError { faults: vec![what] };
    if text.len() > TEXT_LIMIT {
        return Err(refused(format!("{} bytes are more than {TEXT_LIMIT}", text.len())));
    }
    let tree: Value = match format {
        Format::Toml => {
            let tree: toml::Value = toml::from_str(text).map_err(|e| refused(e.to_string()))?;
            let mut faults = Faults::default();
            not_in_json("", &tree, &mut faults);
            if !faults.0.is_empty() {
                return Err(TopologyError { faults: faults.0 });
            }
            serde_json::to_value(tree).map_err(|e| refused(e.to_string()))?
        }
        Format::Json => {
            let Once { value: tree, .. } =
                serde_json::from_str::<Once>(text).map_err(|e| refused(e.to_string()))?;
            tree
        }
    };
    let Value::Object(fields) = tree else {
        return Err(refused("it is not a table".to_owned()));
    };
    let mut faults = Faults::default();
    let topology = read(fields, &mut faults);
    check(&topology, &mut faults);
    match faults.0.is_empty() {
        true => Ok(topology),
        false => Err(TopologyError { faults: faults.0 }),
    }
}

/// The places of numbers that are not finite, and of dates: JSON has none.
fn not_in_json(place: &str, tree: &toml::Value, faults: &mut Faults) {
    let under =
        |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match tree {
        toml::Value::Float(it) if !it.is_finite() => {
            faults.add(place, format_args!("{it} is not a finite number"));
        }
        toml::Value::Datetime(it) => {
            faults.add(place, format_args!("{it} is a date, and nothing here is one"));
        }
        toml::Value::Array(all) => {
            let all = all.iter().enumerate();
            all.for_each(|(number, it)| not_in_json(&format!("{place}[{number}]"), it, faults));
        }
        toml::Value::Table(fields) => {
            fields.iter().for_each(|(name, it)| not_in_json(&under(name), it, faults));
        }
        _ => {}
    }
}

fn read(fields: Map<String, Value>, faults: &mut Faults) -> Topology {
    if fields.is_empty() {
        let what = "nothing is in it; `derive = true` joins all sensors by their ids";
        faults.add("the topology", what);
    }
    let mut top = Table { place: "the topology".to_owned(), fields, faults };
    let derive = top.take("derive", boolean);
    let (edges, chains) = (top.tables("edges"), top.tables("chains"));
    let devices = top.tables("devices");
    let mut defaults = top.table("defaults");
    let (edge, device) = (defaults.fields_of("edge"), defaults.fields_of("device"));
    defaults.end();
    top.end();
    let edge_default = edge_rule(&mut defaults_table("defaults.edge", &edge, faults));
    let device_default = device_rule(&mut defaults_table("defaults.device", &device, faults));
    let mut links = Vec::new();
    for (place, fields) in chains {
        links.extend(chain(Table { place, fields: over(&edge, fields), faults }));
    }
    for (place, fields) in edges {
        links.extend(link(Table { place, fields: over(&edge, fields), faults }));
    }
    let mut listed = BTreeMap::new();
    for (place, fields) in devices {
        let mut table =
            Table { place: place.clone(), fields: over(&device, fields), faults: &mut *faults };
        let Some(id) = table.required("id", id) else { continue };
        let rule = device_rule(&mut table);
        if listed.insert(id.clone(), rule).is_some() {
            faults.add(&place, format_args!("device {id} is there twice"));
        }
    }
    let derive = derive.unwrap_or(links.is_empty());
    Topology { derive, edge_default, device_default, edges: links, devices: listed }
}

fn defaults_table<'a>(
    place: &str,
    fields: &Map<String, Value>,
    faults: &'a mut Faults,
) -> Table<'a> {
    Table { place: place.to_owned(), fields: fields.clone(), faults }
}

/// Fields over their defaults.
fn over(defaults: &Map<String, Value>, fields: Map<String, Value>) -> Map<String, Value> {
    let mut all = defaults.clone();
    all.extend(fields);
    all
}

fn chain(mut table: Table<'_>) -> Vec<Link> {
    let sensors = table.required("sensors", ids);
    if sensors.as_ref().is_some_and(|it| it.len() < 2) {
        table.fault("sensors: a chain has two at least");
    }
    let sensors = sensors.unwrap_or_default();
    for turn in sensors.windows(3).filter(|it| it[0] == it[2]) {
        let [before, sensor, _] = turn else { continue };
        table.fault(format_args!("sensors: {before} comes before {sensor}, and follows it"));
    }
    let rule = edge_rule(&mut table);
    let pairs = sensors.windows(2).map(|pair| Link {
        current: pair[0].clone(),
        following: pair[1].clone(),
        rule,
    });
    pairs.collect()
}

fn link(mut table: Table<'_>) -> Option<Link> {
    let (current, following) = (table.required("current", id), table.required("following", id));
    let rule = edge_rule(&mut table);
    Some(Link { current: current?, following: following?, rule })
}

fn edge_rule(table: &mut Table<'_>) -> Rule {
    let plain = Rule::default();
    let clock = table.take("clock", milliseconds).unwrap_or(plain.clock);
    let confirm = confirm(table);
    let rule = Rule {
        ratio: table.take("ratio", positive).unwrap_or(plain.ratio),
        tolerance: table.take("tolerance", not_negative).unwrap_or(plain.tolerance),
        relative: table.take("relative", not_negative).unwrap_or(plain.relative),
        obstruction: table.take("obstruction", not_negative),
        problem: table.take("problem", not_negative),
        hysteresis: table.take("hysteresis", not_negative).unwrap_or(plain.hysteresis),
        delay: table.take("delay", milliseconds).unwrap_or(plain.delay),
        clock,
        stale: [table.take("stale", positive_milliseconds); 2],
        confirm: Confirm {
            // What passes both is told by each at another time, and is no problem meanwhile.
            debounce: confirm.debounce.max(clock),
            sum: table.take("debounce_sum", not_negative).unwrap_or(plain.confirm.sum),
            between: table.take("between", milliseconds).unwrap_or(plain.confirm.between),
            ..confirm
        },
    };
    table.end();
    rule
}

fn confirm(table: &mut Table<'_>) -> Confirm {
    let plain = Confirm::default();
    Confirm {
        debounce: table.take("debounce", milliseconds).unwrap_or(plain.debounce),
        count: table.take("debounce_count", count).unwrap_or(plain.count),
        flap: table.take("flap", milliseconds).unwrap_or(plain.flap),
        ..plain
    }
}

fn device_rule(table: &mut Table<'_>) -> DeviceRule {
    let interval = table.take("interval", positive_milliseconds);
    let silence = table.take("silence", positive_milliseconds);
    let rule = DeviceRule {
        zone: table.take("zone", name),
        interval,
        silence: silence.or(interval.map(|it| it.saturating_mul(3))),
        threshold: table.part("threshold", threshold),
        range: table.part("range", range),
        rate: table.part("rate", rate),
        stuck: table.part("stuck", stuck),
        drift: table.part("drift", drift),
        seasonal: table.part("seasonal", seasonal),
        outlier: table.part("outlier", outlier),
        confirm: confirm(table),
    };
    table.end();
    rule
}

fn threshold(table: &mut Table<'_>) -> Option<Threshold> {
    let (above, below) = (table.take("above", finite), table.take("below", finite));
    if above.is_none() && below.is_none() {
        table.fault("say above, below, or both");
    }
    let hysteresis = table.take("hysteresis", not_negative).unwrap_or(0.0);
    if let (Some(above), Some(below)) = (above, below) {
        // What is open ends at a level that is neither high nor low, by the hysteresis.
        if below > above {
            table.fault(format_args!("every level is above {above} or below {below}"));
        } else if below + hysteresis > above - hysteresis {
            let what = "no level is so far within both: the problem would never end";
            table.fault(format_args!("hysteresis {hysteresis}: {what}"));
        }
    }
    Some(Threshold { above, below, hysteresis })
}

fn range(table: &mut Table<'_>) -> Option<Range> {
    let (min, max) = (table.required("min", finite)?, table.required("max", finite)?);
    if min >= max {
        table.fault("min is not below max");
    }
    Some(Range { min, max })
}

fn rate(table: &mut Table<'_>) -> Option<Rate> {
    let most = table.required("most", positive)?;
    Some(Rate { most, per: table.take("per", positive_milliseconds).unwrap_or(60_000) })
}

fn stuck(table: &mut Table<'_>) -> Option<Stuck> {
    let lasting = table.required("for", positive_milliseconds)?;
    Some(Stuck { lasting, within: table.take("within", not_negative).unwrap_or(0.0) })
}

fn drift(table: &mut Table<'_>) -> Option<Drift> {
    let plain = Drift::default();
    Some(Drift {
        most: table.take("most", positive).unwrap_or(plain.most),
        slack: table.take("slack", not_negative).unwrap_or(plain.slack),
        warm_up: table.take("warm_up", count).unwrap_or(plain.warm_up),
    })
}

fn seasonal(table: &mut Table<'_>) -> Option<Seasonal> {
    let plain = Seasonal::default();
    let buckets = table.take("buckets", count).unwrap_or(plain.buckets.into());
    if buckets > 168 {
        table.fault("buckets: at most 168");
    }
    Some(Seasonal {
        period: table.take("period", positive_milliseconds).unwrap_or(plain.period),
        buckets: buckets.min(168) as u16,
        deviations: table.take("deviations", positive).unwrap_or(plain.deviations),
        least: table.take("least", not_negative).unwrap_or(plain.least),
        warm_up: table.take("warm_up", count).unwrap_or(plain.warm_up),
    })
}

fn outlier(table: &mut Table<'_>) -> Option<Outlier> {
    let plain = Outlier::default();
    Some(Outlier {
        deviations: table.take("deviations", positive).unwrap_or(plain.deviations),
        least: table.take("least", not_negative).unwrap_or(plain.least),
        warm_up: table.take("warm_up", count).unwrap_or(plain.warm_up),
    })
}

/// What only all edges together can be wrong in.
fn check(topology: &Topology, faults: &mut Faults) {
    if topology.edges.len() > EDGES {
        faults.add("edges", format_args!("{} are more than {EDGES}", topology.edges.len()));
    }
    if topology.devices.len() > DEVICES {
        faults.add("devices", format_args!("{} are more than {DEVICES}", topology.devices.len()));
    }
    let mut names: BTreeMap<String, &Link> = BTreeMap::new();
    let pairs: BTreeSet<_> = topology.edges.iter().map(|it| (&it.current, &it.following)).collect();
    for link in &topology.edges {
        let Link { current, following, .. } = link;
        let place = format!("edge {current} to {following}");
        if current == following {
            faults.add(&place, "a sensor does not follow itself");
        }
        let name = format!("{current}{following}");
        if topology.derive {
            derived_twin(link, &name, &pairs, &place, faults);
        }
        match names.insert(name.clone(), link) {
            Some(other) if other.current == *current => faults.add(&place, "it is there twice"),
            Some(other) => faults.add(&place, collision(&name, &other.current, &other.following)),
            None => {}
        }
    }
}

/// Refuses an edge whose name is that of another that the ids alone would make.
fn derived_twin(
    link: &Link,
    name: &str,
    pairs: &BTreeSet<(&String, &String)>,
    place: &str,
    faults: &mut Faults,
) {
    for (current, following) in derived::joined(name) {
        if !pairs.contains(&(&current, &following)) && current != link.current {
            faults.add(place, collision(name, &current, &following));
        }
    }
}

fn collision(name: &str, current: &str, following: &str) -> String {
    format!("its problems would be named {name}, as those of edge {current} to {following}")
}

impl Table<'_> {
    fn fault(&mut self, what: impl std::fmt::Display) {
        self.faults.add(&self.place, what);
    }

    /// Takes a field, where it is there and right.
    fn take<T>(&mut self, key: &str, read: fn(&Value) -> Result<T, String>) -> Option<T> {
        let value = self.fields.remove(key)?;
        read(&value).map_err(|why| self.fault(format_args!("{key}: {why}"))).ok()
    }

    fn required<T>(&mut self, key: &str, read: fn(&Value) -> Result<T, String>) -> Option<T> {
        if !self.fields.contains_key(key) {
            self.fault(format_args!("{key} is missing"));
        }
        self.take(key, read)
    }

    /// Takes a table within this one apart.
    fn part<T>(&mut self, key: &str, read: fn(&mut Table<'_>) -> Option<T>) -> Option<T> {
        self.fields.contains_key(key).then_some(())?;
        let mut table = self.table(key);
        let part = read(&mut table);
        // What is missing has been told; what else is unknown in it would be told twice.
        part.inspect(|_| table.end())
    }

    fn table(&mut self, key: &str) -> Table<'_> {
        let fields = self.fields_of(key);
        Table { place: format!("{}, {key}", self.place), fields, faults: &mut *self.faults }
    }

    fn fields_of(&mut self, key: &str) -> Map<String, Value> {
        match self.fields.remove(key) {
            None => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                self.fault(format_args!("{key}: {} is not a table", shown(&other)));
                Map::new()
            }
        }
    }

    /// Takes a list of tables, each with its place.
    fn tables(&mut self, key: &str) -> Vec<(String, Map<String, Value>)> {
        let list = match self.fields.remove(key) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.fault(format_args!("{key}: {} is not a list of tables", shown(&other)));
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for (number, value) in list.into_iter().enumerate() {
            let place = format!("{key}[{number}]");
            match value {
                Value::Object(fields) => tables.push((place, fields)),
                other => {
                    self.faults.add(&place, format_args!("{} is not a table", shown(&other)));
                }
            }
        }
        tables
    }

    /// What is left is not known.
    fn end(&mut self) {
        for key in std::mem::take(&mut self.fields).keys() {
            let key: String = key.chars().take(60).collect();
            self.faults.add(&self.place, format_args!("{key:?} is not a key that is known here"));
        }
    }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{} is neither true nor false", shown(value)))
}

fn finite(value: &Value) -> Result<f64, String> {
    let number = value.as_f64().filter(|it| it.is_finite());
    number.ok_or_else(|| format!("{} is not a finite number", shown(value)))
}

fn not_negative(value: &Value) -> Result<f64, String> {
    let number = finite(value)?;
    if number >= 0.0 { Ok(number) } else { Err(format!("{number} is negative")) }
}

fn positive(value: &Value) -> Result<f64, String> {
    let number = finite(value)?;
    if number > 0.0 { Ok(number) } else { Err(format!("{number} is not above zero")) }
}

fn positive_milliseconds(value: &Value) -> Result<i64, String> {
    let ms = milliseconds(value)?;
    if ms > 0 { Ok(ms) } else { Err("it is not above zero".to_owned()) }
}

fn count(value: &Value) -> Result<u32, String> {
    let number = value.as_u64().filter(|number| (1..=COUNT).contains(number));
    let why = || format!("{} is no whole number from 1 to {COUNT}", shown(value));
    let number = number.ok_or_else(why)?;
    Ok(number as u32)
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{} is not a text", shown(value)))
}

fn id(value: &Value) -> Result<String, String> {
    let id = text(value)?;
    check_id(&id).map(|()| id)
}

/// A zone is named under the same rules as a device.
fn name(value: &Value) -> Result<String, String> {
    let name = text(value)?;
    check_id(&name).map(|()| name).map_err(|why| why.replacen("the id", "the name", 1))
}

fn ids(value: &Value) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or_else(|| format!("{} is not a list", shown(value)))?;
    list.iter().map(id).collect()
}
