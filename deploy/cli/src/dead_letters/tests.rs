//! Letters as SQS gives them.

use aws_sdk_sqs::primitives::Blob;
use serde_json::json;

use super::*;

#[test]
fn only_receives_that_bring_nothing_at_all_are_the_end_of_a_queue() {
    let mut looks = Looks::default();
    // Letters that were out of sight for too long come again, between new ones and before the end.
    for (given, new, wanted) in [
        (10, 0, Look::Again),
        (0, 0, Look::Again),
        (3, 0, Look::Again),
        (0, 0, Look::Again),
        (4, 1, Look::New),
    ] {
        assert_eq!(looks.noted(given, new), wanted, "{given} letters, {new} of them new");
    }
    let mut looks = Looks::default();
    assert_eq!((looks.noted(0, 0), looks.noted(0, 0)), (Look::Again, Look::End));
}

fn letter(attribute: &str) -> Letter {
    let attribute =
        MessageAttributeValue::builder().data_type("String").string_value(attribute).build();
    let message = Message::builder().message_id("m").receipt_handle("h");
    let message = message.message_attributes(WHY, attribute.unwrap());
    Letter::read(message.build()).unwrap()
}

#[test]
fn a_senders_own_attribute_of_the_reasons_name_is_no_reason_and_goes_back_with_its_message() {
    for own in ["fleet 7", r#"{"reason":7}"#] {
        let letter = letter(own);
        assert_eq!(letter.why.kind, "unknown");
        assert_eq!(letter.attributes[WHY].string_value(), Some(own));
    }
    let folded = r#"{"reason":"r","kind":"k","queue":"http://q/a",
        "attributes":{"flotilla":{"type":"String","text":"fleet 7"}}}"#;
    let letter = letter(folded);
    assert_eq!((letter.why.kind.as_str(), letter.why.queue.as_deref()), ("k", Some("http://q/a")));
    assert_eq!(letter.attributes[WHY].string_value(), Some("fleet 7"));
}

#[test]
fn a_letter_is_shown_with_every_attribute_of_its_message() {
    let attribute = |kind: &str| MessageAttributeValue::builder().data_type(kind);
    let text = attribute("Number.int").string_value("7").build().unwrap();
    let blob = Blob::new([0, 159, 146, 150]);
    let blob = attribute("Binary.png").binary_value(blob).build().unwrap();
    let why = r#"{"reason":"r","kind":"k","attributes":{"z":{"type":"String","text":"ü\u001b"}}}"#;
    let why = attribute("String").string_value(why).build().unwrap();
    let message = Message::builder().message_id("m").receipt_handle("h");
    let message = message.message_attributes("n", text).message_attributes("b", blob);
    let letter = Letter::read(message.message_attributes(WHY, why).build()).unwrap();
    let shown = serde_json::to_value(&letter).unwrap();
    let wanted = json!({
        "b": { "type": "Binary.png", "base64": "AJ+Slg==" },
        "n": { "type": "Number.int", "text": "7" },
        "z": { "type": "String", "text": "ü\u{1b}" },
    });
    assert_eq!(shown["attributes"], wanted);
    let lines: Vec<_> = letter.attribute_lines().collect();
    assert_eq!(lines, ["b (Binary.png): AJ+Slg==", "n (Number.int): 7", "z (String): ü\\u001b"]);
}

#[test]
fn a_letter_goes_back_to_the_queue_that_it_was_on() {
    let of = |queue: &str| letter(&format!(r#"{{"reason":"r","kind":"k","queue":"{queue}"}}"#));
    assert_eq!(of("http://q/1/refresh").home("http://q/1/builds"), "http://q/1/refresh");
    assert_eq!(of("http://other/1/builds").home("http://q/1/builds"), "http://q/1/builds");
    assert_eq!(letter("no reason").home("http://q/1/builds"), "http://q/1/builds");
}

#[test]
fn a_letter_that_sqs_moved_goes_back_to_the_queue_that_it_was_on() {
    let message = Message::builder().message_id("m").receipt_handle("h");
    let arn = "arn:aws:sqs:eu-west-1:1:refresh";
    let message = message.attributes(System::DeadLetterQueueSourceArn, arn);
    let letter = Letter::read(message.build()).unwrap();
    assert_eq!(letter.home("http://q/1/builds"), "http://q/1/refresh");
    assert_eq!(letter.home("http://q/1/refresh"), "http://q/1/refresh");
    assert_eq!(letter.why.kind, "unknown");
    assert!(letter.why.reason.contains("more often than refresh"), "{}", letter.why.reason);
}

#[test]
fn what_comes_again_and_again_is_not_waited_for_without_end() {
    let mut looks = Looks::default();
    let vain = (1..).find(|_| looks.noted(10, 0) == Look::Vain);
    assert_eq!(vain, Some(VAIN));
}
