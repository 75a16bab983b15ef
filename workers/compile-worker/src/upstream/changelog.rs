//! What has changed upstream since a serial: XML-RPC, as PyPI and Warehouse speak it.

use std::{collections::BTreeMap, time::Duration};

use flotilla_runtime::Failure;

use super::Upstream;
use crate::names::normalize;

/// A changelog has at most this many bytes.
const LIMIT: usize = 64 << 20;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The packages that changed (normalised), each with its latest serial.
    pub packages: BTreeMap<String, u64>,
    /// The latest serial of all.
    pub serial: u64,
}

impl Upstream {
    /// The serial of the latest change, asked at `url` (`https://pypi.org/pypi`).
    ///
    /// # Errors
    /// Transient when nobody answers, or not with a serial.
    pub async fn last_serial(&self, url: &str) -> Result<u64, Failure> {
        let body = self.call(url, "changelog_last_serial", None).await?;
        let serial = values(&body).pop().and_then(|text| text.parse().ok());
        serial.ok_or_else(|| failed(url, "it gives no serial"))
    }

    /// What has changed since a serial.
    ///
    /// # Errors
    /// As [`last_serial`](Self::last_serial).
    pub async fn changes(&self, url: &str, since: u64) -> Result<Changes, Failure> {
        let body = self.call(url, "changelog_since_serial", Some(since)).await?;
        if !body.contains("<methodResponse>") {
            return Err(failed(url, "it gives no changelog"));
        }
        Ok(changes(&body, since))
    }

    async fn call(&self, url: &str, method: &str, serial: Option<u64>) -> Result<String, Failure> {
        let parameter = serial.map(|serial| {
            format!("<params><param><value><int>{serial}</int></value></param></params>")
        });
        let parameter = parameter.unwrap_or_default();
        let body = format!(
            "<?xml version='1.0'?><methodCall><methodName>{method}</methodName>{parameter}\
             </methodCall>"
        );
        let page = self.http.post(url, body, LIMIT, PATIENCE).await?;
        page.expect_ok()?;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        match text.contains("<fault>") {
            true => Err(failed(url, &values(&text).join(" "))),
            false => Ok(text),
        }
    }
}

fn failed(url: &str, why: &str) -> Failure {
    Failure::transient("upstream", format!("the changelog at {url}: {why}"))
}

/// The events: arrays of name, version, time, action and serial.
fn changes(body: &str, since: u64) -> Changes {
    let mut changes = Changes { serial: since, ..Changes::default() };
    for event in body.split("<data>").skip(1).filter_map(|it| it.split("</data>").next()) {
        let values = values(event);
        let [name, _, _, _, serial] = values.as_slice() else { continue };
        if let (Ok(name), Ok(serial)) = (normalize(name), serial.parse::<u64>()) {
            let latest = changes.packages.entry(name).or_default();
            *latest = serial.max(*latest);
            changes.serial = serial.max(changes.serial);
        }
    }
    changes
}

/// The texts of all values without parts.
fn values(xml: &str) -> Vec<String> {
    let inner = xml.split("<value>").skip(1).filter_map(|it| it.split("</value>").next());
    let plain = inner.filter(|it| !it.contains("<array>") && !it.contains("<struct>"));
    plain.map(|it| text(it).trim().to_owned()).collect()
}

/// Without the tag of its type.
fn text(value: &str) -> String {
    let inner = value.trim().split_once('>').filter(|_| value.trim_start().starts_with('<'));
    let inner = inner.map_or(value, |(_, rest)| rest.split('<').next().unwrap_or_default());
    inner.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_serial_of_each_package_is_read() {
        let event = |name: &str, version: &str, serial: u64| {
            format!(
                "<value><array><data>\n<value><string>{name}</string></value>\n\
                 <value>{version}</value><value><int>1700000000</int></value>\
                 <value><string>add &lt;file&gt; x</string></value>\
                 <value><int>{serial}</int></value>\n</data></array></value>"
            )
        };
        let events =
            [event("A_b", "<string>1.0</string>", 8), event("c", "<nil/>", 9), event("a.b", "", 7)];
        let body = format!(
            "<?xml version='1.0'?>\n<methodResponse>\n<params><param><value><array><data>{}\
             </data></array></value></param></params></methodResponse>",
            events.concat()
        );
        let found = changes(&body, 5);
        assert_eq!(found.packages, BTreeMap::from([("a-b".into(), 8), ("c".into(), 9)]));
        assert_eq!(found.serial, 9);
        let none = "<methodResponse><params><param><value><array><data></data></array></value>";
        assert_eq!(changes(none, 5), Changes { serial: 5, ..Changes::default() });
        let last = "<params><param><value><int>42</int></value></param></params>";
        assert_eq!(values(last), ["42"]);
    }
}
