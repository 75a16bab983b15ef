//! The clocks of EventBridge Scheduler, and the role that they act under.
//!
//! Both are asked by plain signed requests: one call of each service does not pay for two more
//! SDKs, of which IAM's is among the largest.

use serde_json::{Value, json};

use super::{Found, present};
use crate::{aws::Clients, error::Error, signed};

/// A schedule's properties; `None` where there is no schedule of this name.
pub(super) async fn schedule(clients: &Clients, name: &str) -> Result<Option<Found>, Error> {
    let path = format!("/schedules/{name}");
    let (status, body) = signed::get(clients, "scheduler", &path).await?;
    match status {
        // The service speaks the template's own words.
        200 => Ok(serde_json::from_str(&body).ok()),
        404 => Ok(None),
        _ => Err(refused(&format!("describing schedule {name}"), status, &body)),
    }
}

/// A role's properties, inline policies included; `None` where there is no role of this name.
pub(super) async fn role(clients: &Clients, name: &str) -> Result<Option<Found>, Error> {
    let query = format!("/?Action=GetRole&RoleName={name}&Version=2010-05-08");
    let (status, body) = signed::get(clients, "iam", &query).await?;
    match status {
        200 => {}
        404 => return Ok(None),
        _ => return Err(refused(&format!("describing role {name}"), status, &body)),
    }
    Ok(Some(present([
        ("RoleName", between(&body, "RoleName").map(|it| json!(it))),
        ("AssumeRolePolicyDocument", between(&body, "AssumeRolePolicyDocument").and_then(document)),
        ("Policies", Some(policies(clients, name).await?)),
    ])))
}

async fn policies(clients: &Clients, role: &str) -> Result<Value, Error> {
    let query = format!("/?Action=ListRolePolicies&RoleName={role}&Version=2010-05-08");
    let listed = body(clients, &query, role).await?;
    let mut policies = Vec::new();
    for part in listed.split("<member>").skip(1) {
        let name = part.split("</member>").next().unwrap_or_default();
        let query =
            format!("/?Action=GetRolePolicy&PolicyName={name}&RoleName={role}&Version=2010-05-08");
        let text = body(clients, &query, role).await?;
        let document = between(&text, "PolicyDocument").and_then(document);
        policies.push(json!({ "PolicyName": name, "PolicyDocument": document }));
    }
    Ok(Value::Array(policies))
}

async fn body(clients: &Clients, query: &str, role: &str) -> Result<String, Error> {
    let (status, body) = signed::get(clients, "iam", query).await?;
    match status {
        200 => Ok(body),
        _ => Err(refused(&format!("describing the policies of role {role}"), status, &body)),
    }
}

fn refused(doing: &str, status: u16, body: &str) -> Error {
    let said: String = body.chars().take(300).collect();
    Error::Fleet(format!("{doing}: it answers {status}: {said}"))
}

fn between(text: &str, tag: &str) -> Option<String> {
    let rest = text.split_once(&format!("<{tag}>"))?.1;
    Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
}

/// IAM answers with a document in percent encoding; local endpoints with one escaped for XML.
fn document(text: String) -> Option<Value> {
    let plain = percent_encoding::percent_decode_str(&text).decode_utf8_lossy();
    let plain = plain.replace("&quot;", "\"").replace("&amp;", "&");
    serde_json::from_str(&plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_in_percent_encoding_and_in_xml() {
        let expected = json!({"Version": "2012-10-17"});
        for text in [
            "%7B%22Version%22%3A%222012-10-17%22%7D",
            "{&quot;Version&quot;: &quot;2012-10-17&quot;}",
        ] {
            assert_eq!(document(text.to_owned()), Some(expected.clone()));
        }
    }
}
