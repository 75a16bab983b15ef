//! What a consumer that subscribes its queue to a topic asks of SNS at its start. No message
//! passes here.

use http_body_util::Full;
use hyper::{Response, StatusCode, body::Bytes};

use super::response;

/// Answers a form of SNS's query protocol.
pub(super) fn answer(form: &str) -> Response<Full<Bytes>> {
    let action =
        form.split('&').find_map(|field| field.strip_prefix("Action=")).unwrap_or_default();
    let result = match action {
        "CreateTopic" => "<TopicArn>arn:aws:sns:us-east-1:000000000000:topic</TopicArn>",
        "Subscribe" => {
            "<SubscriptionArn>arn:aws:sns:us-east-1:000000000000:topic:1</SubscriptionArn>"
        }
        _ => return response(StatusCode::BAD_REQUEST, "text/plain", "not known here"),
    };
    let xml = format!(
        "<{action}Response><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>stub</RequestId></ResponseMetadata></{action}Response>"
    );
    response(StatusCode::OK, "text/xml", xml)
}
