//! What is asked of a service without its SDK: where it is, and the question.

use flotilla_runtime::signed::Call;

use crate::{aws::Clients, error::Error};

/// Gets `path` of a service, signed; gives status and body.
pub(crate) async fn get(
    clients: &Clients,
    service: &str,
    path: &str,
) -> Result<(u16, String), Error> {
    let (base, region) = place(clients, service);
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let call = Call { service, region: &region, url: &url, headers: &[], body: None };
    call.send(&clients.sdk).await.map_err(|e| Error::Fleet(e.to_string()))
}

/// Where a service is, and the region that its requests are signed for.
fn place(clients: &Clients, service: &str) -> (String, String) {
    let china = clients.region.starts_with("cn-");
    let home = if china { "cn-north-1" } else { "us-east-1" };
    let region = if service == "iam" { home } else { &clients.region };
    if let Some(url) = elsewhere(service).as_ref().or(clients.url.as_ref()) {
        return (url.clone(), region.to_owned());
    }
    let suffix = if china { "amazonaws.com.cn" } else { "amazonaws.com" };
    let host = match service {
        "iam" if china => format!("iam.{home}.{suffix}"),
        "iam" => format!("iam.{suffix}"),
        _ => format!("{service}.{region}.{suffix}"),
    };
    (format!("https://{host}"), region.to_owned())
}

/// Where the SDK's own variable says that a service is, beside all others.
fn elsewhere(service: &str) -> Option<String> {
    let set = std::env::var("AWS_ENDPOINT_URL_AUTO_SCALING").ok();
    set.filter(|url| service == "autoscaling" && !url.is_empty())
}
